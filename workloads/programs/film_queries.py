"""What workflows ask of the database `films`. Places: keyword, genre, first, last (years), title.

Every query says its order to the last row, so that its answer is one and the same however it is run.
"""

BY_KEYWORD = """
SELECT title, genre, release_year, country FROM film
WHERE title LIKE '%' || :keyword || '%' ORDER BY release_year DESC, film_id
"""

TOP_RATED = """
SELECT film.title, film.release_year, rating.average, rating.votes FROM film JOIN rating USING (film_id)
WHERE film.genre = :genre ORDER BY rating.average DESC, rating.votes DESC, film.film_id
"""

MOST_VOTED = """
SELECT film.title, film.release_year, rating.votes FROM film JOIN rating USING (film_id)
WHERE film.genre = :genre AND film.release_year BETWEEN :first AND :last ORDER BY rating.votes DESC, film.film_id
"""

RENTALS = """
SELECT film.title, count(*) AS rentals, sum(rental.paid) / 100.0 AS paid FROM film JOIN rental USING (film_id)
WHERE film.genre = :genre AND film.release_year BETWEEN :first AND :last
GROUP BY film.film_id ORDER BY rentals DESC, film.film_id
"""

PEOPLE = """
SELECT person.name, person.birth_year, count(*) AS films FROM person JOIN credit USING (person_id)
WHERE person.name LIKE '%' || :keyword || '%' GROUP BY person.person_id ORDER BY films DESC, person.person_id
"""

CREDITS = """
SELECT person.name, credit.job, count(*) AS films
FROM film JOIN credit USING (film_id) JOIN person USING (person_id)
WHERE film.genre = :genre AND film.release_year BETWEEN :first AND :last
GROUP BY person.person_id, credit.job ORDER BY films DESC, person.person_id, credit.job
"""

FOREIGN_TITLES = """
SELECT film.title, foreign_title.country, foreign_title.title AS called
FROM film JOIN foreign_title USING (film_id)
WHERE film.title LIKE '%' || :keyword || '%' ORDER BY film.film_id, foreign_title.country
"""

BY_COUNTRY = """
SELECT country, count(*) AS films, round(avg(length_minutes), 1) AS minutes FROM film
WHERE genre = :genre GROUP BY country ORDER BY films DESC, country
"""

ONE_FILM = """
SELECT film.title, film.release_year, rating.average, person.name, credit.job
FROM film JOIN rating USING (film_id) JOIN credit USING (film_id) JOIN person USING (person_id)
WHERE film.title = :title ORDER BY film.film_id, credit.job DESC, person.person_id
"""
