from tests.sandbox_fixture import sandbox

__all__ = ["sandbox"]
