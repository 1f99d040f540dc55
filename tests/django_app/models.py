"""What tasks write."""

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class Note(models.Model):
    text = models.CharField(max_length=100)


class Clerk(AbstractBaseUser):
    """A user whom the admin accepts, in a site that does without Django's groups and superusers."""

    name = models.CharField(max_length=100, unique=True)
    is_staff = True
    USERNAME_FIELD = "name"

    def has_perm(self, permission: str) -> bool:
        return permission == "shop.change_order"
