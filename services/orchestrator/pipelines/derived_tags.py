"""Whose the tags are that pipelines derive: each has one pipeline of the site, whichever workspace it is in."""

from collections.abc import Mapping
from contextlib import suppress

from contracts.v1.node import DeriveNode
from plugins.api.document import DocumentError
from services.orchestrator.definition.reach import all_nodes
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.version import Name, Version


class DerivedTags:
    """Follows the repository. Of pipelines that derive one tag, the one whose live version was saved first has it."""

    def __init__(self, *, repository: Repository, definitions: Definitions) -> None:
        self._repository = repository
        self._definitions = definitions
        self._owners: Mapping[str, Name] | None = None
        repository.on_change(self._forget)

    def owner(self, tag: str) -> Name | None:
        """The pipeline that derives `device/tag`; None if no live version does."""
        return self._known().get(tag)

    def elsewhere(self, scope: str) -> frozenset[str]:
        """The tags that pipelines of other workspaces derive."""
        return frozenset(tag for tag, (within, _) in self._known().items() if within != scope)

    def _known(self) -> Mapping[str, Name]:
        if self._owners is None:
            owners: dict[str, Name] = {}
            for version in sorted(self._repository.all(), key=lambda one: (one.saved_at, one.name)):
                for tag in self._of(version):
                    owners.setdefault(tag, version.name)
            self._owners = owners
        return self._owners

    def _of(self, version: Version) -> frozenset[str]:
        """None where this release cannot read it: then it does not run, either."""
        with suppress(DocumentError):
            nodes = all_nodes(self._definitions.of(version.text or "").nodes)
            return frozenset(node.tag for node in nodes if isinstance(node, DeriveNode))
        return frozenset()

    def _forget(self, _version: Version) -> None:
        self._owners = None
