"""Makes the tables of django-outbox-pattern and lets it write to them."""

import sys
from urllib.parse import urlsplit

import django
from django.conf import settings

dsn, step = urlsplit(sys.argv[1]), sys.argv[2]
settings.configure(
    INSTALLED_APPS=["django_outbox_pattern"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": dsn.hostname,
            "PORT": dsn.port,
            "USER": dsn.username,
            "NAME": dsn.path[1:],
        }
    },
    USE_TZ=True,
    DJANGO_OUTBOX_PATTERN={},
)
django.setup()

if step == "table":
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
else:
    from django.db import transaction
    from django_outbox_pattern.models import Published

    with transaction.atomic():
        Published.objects.create(destination="/topic/order.placed", body={"total": 12.5})
