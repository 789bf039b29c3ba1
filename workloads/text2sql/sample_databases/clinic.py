"""A clinic: doctors, patients, appointments and what came of them."""

from workloads.text2sql.sample_databases.words import Draw, Tables

SCHEMA = """
CREATE TABLE department (department_id INTEGER PRIMARY KEY, name TEXT NOT NULL, floor INTEGER NOT NULL);
CREATE TABLE doctor (
  doctor_id INTEGER PRIMARY KEY, name TEXT NOT NULL,
  department_id INTEGER NOT NULL REFERENCES department (department_id),
  hired_on TEXT NOT NULL, consultation_fee REAL NOT NULL
);
CREATE TABLE patient (
  patient_id INTEGER PRIMARY KEY, name TEXT NOT NULL, born_on TEXT NOT NULL, city TEXT NOT NULL, insurer TEXT
);
CREATE TABLE appointment (
  appointment_id INTEGER PRIMARY KEY, patient_id INTEGER NOT NULL REFERENCES patient (patient_id),
  doctor_id INTEGER NOT NULL REFERENCES doctor (doctor_id), held_on TEXT NOT NULL, starts_at TEXT NOT NULL,
  status TEXT NOT NULL
);
CREATE TABLE diagnosis (
  diagnosis_id INTEGER PRIMARY KEY, appointment_id INTEGER NOT NULL REFERENCES appointment (appointment_id),
  condition TEXT NOT NULL, severity INTEGER NOT NULL
);
CREATE TABLE drug (
  drug_id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_per_day REAL NOT NULL, is_restricted INTEGER NOT NULL
);
CREATE TABLE prescription (
  prescription_id INTEGER PRIMARY KEY, appointment_id INTEGER NOT NULL REFERENCES appointment (appointment_id),
  drug_id INTEGER NOT NULL REFERENCES drug (drug_id), days INTEGER NOT NULL
);
"""

DEPARTMENTS = (("Cardiology", 2), ("Dermatology", 1), ("Neurology", 3), ("Orthopaedics", 2), ("Paediatrics", 1))
CITIES = ("Ashby", "Brightwater", "Calder", "Dunlow")
INSURERS = ("Meridian Health", "Northcare", "Unity Mutual")
CONDITIONS = ("Hypertension", "Eczema", "Migraine", "Sprain", "Asthma", "Arrhythmia", "Back pain", "Influenza")
DRUGS = (
    "Alvorin", "Betrazol", "Cardimex", "Dermacil", "Elopran", "Fentrex", "Gastrolin", "Histavex", "Ibrosan", "Juvenil"
)  # fmt: skip


def rows(draw: Draw) -> Tables:
    tables: Tables = {
        "department": [(n, *department) for n, department in enumerate(DEPARTMENTS, 1)],
        "doctor": [
            (n, f"Dr {name}", (n - 1) % 5 + 1, draw.day("2008-01-01", "2023-06-30"), float(draw.between(8, 24) * 5))
            for n, name in enumerate(draw.people(18), 1)
        ],
        "patient": [
            (n, name, draw.day("1938-01-01", "2019-12-31"), draw.one(CITIES), draw.one((*INSURERS, None)))
            for n, name in enumerate(draw.people(90), 1)
        ],
        "drug": [(n, name, draw.money(0.4, 9.5), int(draw.chance(0.3))) for n, name in enumerate(DRUGS, 1)],
    }
    statuses = [draw.one(("held",) * 7 + ("cancelled", "missed")) for _ in range(320)]
    tables["appointment"] = [
        (
            n,
            draw.likely(range(1, 84)),
            draw.likely(range(1, 18)),
            draw.day("2024-01-02", "2024-12-20"),
            draw.clock(8, 17),
            status,
        )
        for n, status in enumerate(statuses, 1)
    ]
    held = [n for n, status in enumerate(statuses, 1) if status == "held"]
    diagnosed = [n for n in held if draw.chance(0.7)]
    treated = [n for n in held for _ in range(draw.one((0, 1, 1, 2)))]
    tables["diagnosis"] = [
        (n, appointment, draw.likely(CONDITIONS), draw.between(1, 5)) for n, appointment in enumerate(diagnosed, 1)
    ]
    tables["prescription"] = [
        (n, appointment, draw.likely(range(1, 10)), draw.one((5, 7, 10, 14, 30)))
        for n, appointment in enumerate(treated, 1)
    ]
    return tables
