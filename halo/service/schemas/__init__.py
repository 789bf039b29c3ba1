"""What comes in and goes out over HTTP. Pydantic models live here and nowhere else in the service."""
