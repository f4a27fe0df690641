from hypothesis import settings

# Machines that run these tests are shared: how long one example takes says nothing.
settings.register_profile("tandem", deadline=None)
settings.load_profile("tandem")
