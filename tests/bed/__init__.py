"""The test bed: private PostgreSQL, RabbitMQ, Stripe emulator and workers, in a temporary folder and on free ports.

Several beds run side by side without meeting. Whatever a bed starts dies with it, also when Python is killed.
"""

from bed.bed import Bed
from bed.emulator import Emulator
from bed.postgres import Postgres
from bed.process import wait_until
from bed.rabbitmq import RabbitMQ
from bed.service import Service
from bed.worker import Worker

__all__ = ["Bed", "Emulator", "Postgres", "RabbitMQ", "Service", "Worker", "wait_until"]
