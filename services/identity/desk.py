"""Executes the commands of admins."""

from functools import partial
from typing import Any

from contracts.v1.command import ErrorCode
from contracts.v1.policy import Rights
from contracts.v1.service import SERVICE, ServiceState
from contracts.v1.user import (
    ADD_USER,
    ALL_USERS,
    LIST_USERS,
    REMOVE_USER,
    SET_OWN_PASSWORD,
    SET_PASSWORD,
    SET_ROLE,
    AddUser,
    ListUsers,
    RemoveUser,
    SetPassword,
    SetRole,
    UserChange,
    UserList,
)
from plugins.api.clock import Clock
from services.identity.password import PERSON_ITERATIONS, iterations_of
from services.identity.register import Change, Register
from services.identity.roster import User, UserRefused, added, removed, with_password, with_rights
from services.runtime.bus.bus import Bus, CommandFailed, Delivery
from services.runtime.settings import Rate

OWN_PASSWORDS = Rate(rate=1 / 60, burst=5)
"""For each of them the broker reads its files again, and serves nobody meanwhile."""


class Desk:
    """Serves the verbs of users from its making on.

    taken: names of services and of their instances; those that are seen at the broker are added.
    """

    def __init__(self, *, register: Register, taken: set[str], bus: Bus, clock: Clock) -> None:
        self._register = register
        self._taken = taken
        self._clock = clock
        bus.subscribe(SERVICE, self._see_service)
        bus.serve(ADD_USER, self._add)
        bus.serve(REMOVE_USER, self._remove)
        bus.serve(SET_ROLE, self._set_role)
        bus.serve(SET_PASSWORD, self._set_password)
        bus.serve(SET_OWN_PASSWORD, self._set_own_password, rate=OWN_PASSWORDS)
        bus.serve(LIST_USERS, self._list, id=ALL_USERS, anew=True)

    async def _see_service(self, delivery: Delivery[ServiceState]) -> None:
        """Another machine's services stand in no settings of ours."""
        self._taken.update((delivery.levels["service"], delivery.levels["instance"]))

    async def _add(self, delivery: Delivery[AddUser]) -> UserChange:
        asked, name = delivery.payload, delivery.levels["id"]
        user = User(_rights(asked), asked.password, since=self._clock.now_us())
        return await self._change(delivery, partial(added, name=name, user=user, taken=self._taken))

    async def _remove(self, delivery: Delivery[RemoveUser]) -> UserChange:
        return await self._change(delivery, partial(removed, name=delivery.levels["id"]))

    async def _set_role(self, delivery: Delivery[SetRole]) -> UserChange:
        rights = _rights(delivery.payload)
        return await self._change(delivery, partial(with_rights, name=delivery.levels["id"], rights=rights))

    async def _set_password(self, delivery: Delivery[SetPassword]) -> UserChange:
        asked, name = delivery.payload, delivery.levels["id"]
        return await self._change(delivery, partial(with_password, name=name, password=asked.password))

    async def _set_own_password(self, delivery: Delivery[SetPassword]) -> UserChange:
        """Who is no admin keeps nobody else waiting with what his password costs the broker, at each of his logins."""
        if iterations_of(delivery.payload.password) > PERSON_ITERATIONS:
            raise CommandFailed(
                ErrorCode.INVALID, f"not done: a password of one's own is hashed {PERSON_ITERATIONS} times at the most"
            )
        return await self._set_password(delivery)

    async def _list(self, delivery: Delivery[ListUsers]) -> UserList:
        try:
            return UserList(users={name: user.rights for name, user in sorted(self._register.users.items())})
        except UserRefused as error:
            raise CommandFailed(error.code, str(error)) from error

    async def _change(self, delivery: Delivery[Any], make: Change) -> UserChange:
        name = delivery.levels["id"]
        try:
            users = await self._register.change(make, user=delivery.levels["user"])
        except UserRefused as error:
            raise CommandFailed(error.code, str(error)) from error
        return UserChange(user=name, rights=users[name].rights if name in users else None)


def _rights(asked: SetRole) -> Rights:
    return Rights(role=asked.role, devices=asked.devices, writes=asked.writes, workspaces=asked.workspaces)
