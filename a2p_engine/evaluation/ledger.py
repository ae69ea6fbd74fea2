"""What has been measured, line by line on disk, so that a long comparison can be taken up again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from a2p_engine.errors import InputError
from a2p_engine.evaluation.systems import Outcome

Key = tuple[str, str, int]


class Ledger:
    """Outcomes by recording, system and size; in memory only where there is no folder."""

    def __init__(self, folder: Path | None, settings: dict[str, Any]) -> None:
        """Open a ledger, or begin one.

        Args:
            folder: where settings.json and outcomes.jsonl are kept.
            settings: of the comparison; those of an earlier part must be the same.

        Raises:
            InputError: the folder cannot be used, or holds another comparison.
        """
        self._outcomes: dict[Key, Outcome] = {}
        self._path = folder / "outcomes.jsonl" if folder else None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open(folder / "settings.json", json.loads(json.dumps(settings)))
        except OSError as error:
            raise InputError(f"cannot keep results in {folder}: {error.strerror}") from error

    @property
    def outcomes(self) -> dict[Key, Outcome]:
        """All there are."""
        return self._outcomes

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome at once."""
        self._outcomes[outcome.id, outcome.system, outcome.size] = outcome
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")

    def _open(self, path: Path, settings: dict[str, Any]) -> None:
        if not path.exists():
            path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            return
        before = json.loads(path.read_text("utf-8"))
        changed = [name for name in settings if before.get(name) != settings[name]]
        if changed:
            raise InputError(
                f"{path.parent} holds another comparison: {', '.join(changed)} differ; "
                "give a new folder"
            )
        self._read()

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        whole = []
        for line in self._path.read_text("utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the line that was being written when the process was stopped
                continue
            outcome = Outcome(**{**record, "prompted": tuple(record["prompted"])})
            self._outcomes[outcome.id, outcome.system, outcome.size] = outcome
            whole.append(line + "\n")
        self._path.write_text("".join(whole), encoding="utf-8")
