"""What workflows ask of the database `encyclopedia`. Places: keyword, title."""

MATCHES = """
SELECT title, text FROM article WHERE text LIKE '%' || :keyword || '%' ORDER BY article_id LIMIT 3
"""

OVERVIEW = "SELECT title, subject, place, text FROM article WHERE title = :title"

CATEGORIES = """
SELECT category.name, count(DISTINCT other.article_id) AS articles FROM article
JOIN article_category AS own ON own.article_id = article.article_id
JOIN category ON category.category_id = own.category_id
JOIN article_category AS other ON other.category_id = own.category_id
WHERE article.title LIKE '%' || :keyword || '%' GROUP BY category.category_id ORDER BY articles DESC, category.name
"""

SAME_SUBJECT = """
SELECT other.title FROM article JOIN article AS other ON other.subject = article.subject
WHERE article.title = :title AND other.title <> :title ORDER BY other.article_id
"""

LINKS_OUT = """
SELECT target.title FROM article JOIN link ON link.from_id = article.article_id
JOIN article AS target ON target.article_id = link.to_id
WHERE article.title LIKE '%' || :keyword || '%' GROUP BY target.article_id ORDER BY count(*) DESC, target.article_id
"""

LINKS_IN = """
SELECT source.title FROM article JOIN link ON link.to_id = article.article_id
JOIN article AS source ON source.article_id = link.from_id
WHERE article.title LIKE '%' || :keyword || '%' GROUP BY source.article_id ORDER BY count(*) DESC, source.article_id
"""
