from hypothesis import HealthCheck, settings

# The machines that run this are shared: slow drawing says nothing about the plans drawn.
settings.register_profile("planner", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("planner")
