from django.db import models


class Subscriber(models.Model):
    email = models.EmailField(unique=True)
    is_welcomed = models.BooleanField(default=False)
