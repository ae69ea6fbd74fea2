"""Published checkpoints become files of our own form, or an error says what does not fit."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from a2p_engine.errors import InputError, ModelError
from a2p_engine.retriever import checkpoints
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever, MergeType
from a2p_engine.retriever.checkpoints import Converted, convert, load_head

VARIANTS = [("add", True), ("add", False), ("fc", True)]
QUERY = "time_words_proj.weight"
State = dict[str, Tensor]


def _module(merge: MergeType = "add", fc: bool = True) -> AttentionRetriever:
    """A head with random numbers of bfloat16 precision, biases included."""
    torch.manual_seed(3)
    module = AttentionRetriever(AttentionConfig(width=16, heads=2, merge=merge, fc=fc)).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.bfloat16().float()


def _state(merge: MergeType = "add", fc: bool = True) -> State:
    return dict(_module(merge, fc).bfloat16().state_dict())


@torch.no_grad()
def _log_probs(module: AttentionRetriever) -> Tensor:
    torch.manual_seed(4)
    words = (torch.arange(3) < torch.randint(1, 4, (9, 1))).float()
    frames = (torch.arange(12) < torch.tensor([[12], [9]])).float()
    found: Tensor = module(
        torch.randn(20, 16), torch.randint(0, 20, (9, 3)), words, torch.randn(2, 12, 16), frames
    )
    return found


class Folder:
    """Where a checkpoint, its configuration and the result lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "zh_retriever"
        self.config = path / "infer_config.json"
        self.out = path / "head.safetensors"
        self.configure()

    def configure(self, merge: MergeType = "add", fc: bool = True) -> None:
        """Write a configuration."""
        values = {"n_embed": 16, "retriever_n_head": 2, "retriever_merge_type": merge}
        text = json.dumps(values | {"retriever_audio_word_fc": fc, "topk": 50})
        self.config.write_text("\ufeff\n" + text, "utf-8")

    def convert(self, **options: Any) -> Converted:
        """Convert what is here."""
        return convert(self.checkpoint, self.config, self.out, **options)

    def convert_saved(self, content: object, **options: Any) -> Converted:
        """Save a checkpoint and convert it."""
        torch.save(content, self.checkpoint)
        return self.convert(**options)

    def error(self, content: object = None) -> str:
        """What is said about a checkpoint that cannot be converted; nothing may be written."""
        if content is not None:
            torch.save(content, self.checkpoint)
        before = sorted(self.path.iterdir())
        with pytest.raises(ModelError) as caught:
            self.convert()
        assert sorted(self.path.iterdir()) == before
        assert str(self.checkpoint) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with a configuration."""
    return Folder(tmp_path)


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "pickle"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize(("merge", "fc"), VARIANTS)
def test_a_converted_head_gives_the_same_log_probabilities(
    folder: Folder, merge: MergeType, fc: bool, prefix: str, as_zip: bool
) -> None:
    """Every variant, with and without prefixes and wrapping, stays as it is in bfloat16."""
    folder.configure(merge, fc)
    state = {prefix + name: tensor for name, tensor in _state(merge, fc).items()}
    content = {"model": state, "best_dev_loss": 0.25} if as_zip else state
    torch.save(content, folder.checkpoint, _use_new_zipfile_serialization=as_zip)
    assert folder.convert().dtypes == ("bfloat16",)
    head = load_head(folder.out)
    assert not head.training
    assert head.config == AttentionConfig(width=16, heads=2, merge=merge, fc=fc)
    assert all(parameter.dtype == torch.float32 for parameter in head.parameters())
    torch.testing.assert_close(_log_probs(head), _log_probs(_module(merge, fc)), rtol=0, atol=1e-6)


def test_the_state_of_a_training_is_left_behind(folder: Folder) -> None:
    """A checkpoint as training writes it: model, optimizer, scheduler and the best loss."""
    module = _module().bfloat16()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    inputs = torch.randn(5, 16), torch.randn(1, 4, 16), torch.ones(1, 4)
    module.token_logits(*(value.bfloat16() for value in inputs)).sum().backward()
    optimizer.step()
    scheduler.step()
    content = {
        "model": module.state_dict(),
        "optim": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "best_dev_loss": 0.5,
    }
    written = folder.convert_saved(content)
    assert written.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert written.size_bytes == folder.out.stat().st_size
    with safe_open(folder.out, "pt") as file:
        assert {name: file.get_slice(name).get_dtype() for name in file.keys()} == dict.fromkeys(
            module.state_dict(), "BF16"
        )
        assert torch.equal(file.get_tensor(QUERY), module.state_dict()[QUERY])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_can_be_written_in_another_type(folder: Folder, dtype: torch.dtype) -> None:
    """All tensors get the type asked for, and the head still says the same."""
    written = folder.convert_saved(_state(), dtype=dtype)
    assert written.dtypes == (str(dtype).removeprefix("torch."),)
    torch.testing.assert_close(
        _log_probs(load_head(folder.out)), _log_probs(_module()), rtol=0, atol=1e-2
    )


def test_types_are_kept_one_by_one(folder: Folder) -> None:
    """Without a type asked for, a checkpoint of several types stays so."""
    state = _state()
    state[QUERY] = state[QUERY].float()
    assert folder.convert_saved(state).dtypes == ("bfloat16", "float32")


def test_a_compressed_archive_is_unpacked(folder: Folder) -> None:
    """Mapped into memory, its compressed bytes would be taken for numbers."""
    buffer = io.BytesIO()
    torch.save(_state(), buffer)
    with (
        zipfile.ZipFile(buffer) as stored,
        zipfile.ZipFile(folder.checkpoint, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    folder.convert()
    assert torch.equal(_log_probs(load_head(folder.out)), _log_probs(_module()))


def test_tensors_of_a_gpu_are_read_without_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the tensors lay when they were saved does not matter."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:7")
        torch.save({"model": _state()}, folder.checkpoint)
    with pytest.raises(RuntimeError, match=r"cuda|CUDA"):
        torch.load(folder.checkpoint, map_location="cuda:7", weights_only=True)
    folder.convert()
    assert torch.equal(_log_probs(load_head(folder.out)), _log_probs(_module()))


def test_tensors_may_share_memory_and_be_transposed(folder: Folder) -> None:
    """Views of one buffer are written as tensors of their own."""
    state, square = _state(), torch.randn(16, 16).bfloat16()
    state |= {
        QUERY: square.t(),
        "audio_word_fc.weight": square,
        "audio_word_proj.bias": square[3, :2],
    }
    folder.convert_saved(state)
    with safe_open(folder.out, "pt") as file:
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in state.items())


def test_missing_unexpected_and_misshapen_tensors_are_named(folder: Folder) -> None:
    """One error lists all three kinds, with the shapes expected and found."""
    state = _state()
    del state["audio_word_proj.bias"]
    state["audio_word_fc.weight"] = torch.ones(16, 32)
    state["encoder.weight"] = torch.ones(2, 3).half()
    message = folder.error({"model": state})
    assert "width=16, heads=2, merge='add', fc=True" in message
    assert "missing: audio_word_proj.bias [2]" in message
    assert "unexpected: encoder.weight (float16 [2, 3])" in message
    assert "wrong: audio_word_fc.weight (float32 [16, 32] where [16, 16] is expected)" in message


def test_many_misfits_are_counted(folder: Folder) -> None:
    """A whole other model names five of its tensors and five that it lacks."""
    message = folder.error({f"layers.{n}.weight": torch.ones(1) for n in range(40)})
    assert message.count("layers.") == 5
    assert "and 35 more" in message
    assert "and 5 more" in message


@pytest.mark.parametrize(("merge", "fc"), VARIANTS)
def test_a_configuration_of_another_variant_does_not_fit(
    folder: Folder, merge: MergeType, fc: bool
) -> None:
    """Whether there is audio_word_fc, and its width, tell the variants apart."""
    for other in VARIANTS:
        if other != (merge, fc):
            folder.configure(*other)  # type: ignore[arg-type]
            assert "audio_word_fc" in folder.error(_state(merge, fc))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.ones(16, 16, dtype=torch.int64), "int64 [16, 16]"),
        (torch.ones(16, 16, dtype=torch.float8_e4m3fn), "float8_e4m3fn [16, 16]"),
        (torch.ones(16, 16).to_sparse(), "float32 [16, 16] torch.sparse_coo"),
        ([1.0], "list"),
    ],
    ids=["int", "float8", "sparse", "list"],
)
def test_only_plain_tensors_of_real_numbers_are_weights(
    folder: Folder, value: object, said: str
) -> None:
    """Anything else under a name of the head is described."""
    message = folder.error(_state() | {QUERY: value})
    assert f"wrong: {QUERY} ({said} where [16, 16] is expected)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_name_their_tensor(folder: Folder, value: float) -> None:
    """A single one is enough, and no other tensor is blamed."""
    state = _state()
    state[QUERY][3, 4] = value
    message = folder.error(state)
    assert message.endswith(f"infinite numbers or NaN in {QUERY}")


def test_numbers_too_large_for_the_type_asked_for_are_noticed(folder: Folder) -> None:
    """Float16 ends at 65504; nothing is written then."""
    state = _state()
    state[QUERY][0, 0] = 1e6
    with pytest.raises(ModelError, match=rf"as torch\.float16 has infinite .* {QUERY}"):
        folder.convert_saved(state, dtype=torch.float16)
    assert not folder.out.exists()
    assert folder.convert(dtype=torch.float32).dtypes == ("float32",)


@pytest.mark.parametrize("names", [("module.x", "x"), ("module.module.x", "module.x")])
def test_names_that_become_one_are_refused(folder: Folder, names: tuple[str, str]) -> None:
    """Of two tensors of one name neither is preferred."""
    assert "holds x more than once" in folder.error(dict.fromkeys(names, torch.ones(1)))


@pytest.mark.parametrize("content", [torch.ones(2), [1], 5, {"model": [torch.ones(2)]}])
def test_contents_without_a_state_dict_are_described(folder: Folder, content: object) -> None:
    """A bare tensor or a list is not a checkpoint."""
    assert "not a state dict" in folder.error(content)


class Payload:
    """Unpickled without care, this makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "pickle"])
def test_pickled_code_is_refused_and_not_run(folder: Folder, as_zip: bool) -> None:
    """The error names what was asked for, and not how to run it all the same."""
    trap = folder.path / "trap"
    content = {"model": _state(), "extra": Payload(trap)}
    torch.save(content, folder.checkpoint, _use_new_zipfile_serialization=as_zip)
    message = folder.error()
    assert "refused" in message
    assert "posix.mkdir, which was not run" in message
    assert "weights_only" not in message
    assert not trap.exists()
    torch.load(folder.checkpoint, weights_only=False)  # the trap works
    assert trap.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_bare_pickle_is_refused_and_not_run(folder: Folder, protocol: int) -> None:
    """Also one that torch did not write; what torch warns of stays out of sight."""
    trap = folder.path / "trap"
    folder.checkpoint.write_bytes(pickle.dumps(Payload(trap), protocol))
    with warnings.catch_warnings(record=True, action="always") as heard:
        assert "nothing but tensors and plain values" in folder.error()
    assert not heard
    assert not trap.exists()
    pickle.loads(folder.checkpoint.read_bytes())
    assert trap.exists()


def test_a_pickled_module_is_refused(folder: Folder) -> None:
    """A whole module, as old code saves it, names its class."""
    assert "torch.nn.modules.linear.Linear" in folder.error(torch.nn.Linear(2, 2))


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return buffer.getvalue()


def _script() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version"):
            archive.writestr(f"script/{name}", b"\x80\x02N.")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Not found</html>\n", b"version https://git-lfs\n", _tar(), _script()],
    ids=["empty", "html", "pointer", "tar", "script"],
)
def test_other_files_are_refused(folder: Folder, content: bytes) -> None:
    """What a download may leave instead of a checkpoint is one line."""
    folder.checkpoint.write_bytes(content)
    assert "damaged, or no torch file" in folder.error()


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "pickle"])
def test_a_file_cut_short_is_refused(folder: Folder, as_zip: bool) -> None:
    """Wherever a download ended."""
    buffer = io.BytesIO()
    torch.save({"model": _state()}, buffer, _use_new_zipfile_serialization=as_zip)
    whole = buffer.getvalue()
    for part in range(1, 20):
        folder.checkpoint.write_bytes(whole[: len(whole) * part // 20])
        assert "damaged" in folder.error()


def test_absent_files_are_named(folder: Folder) -> None:
    """No checkpoint, a directory instead of one, no configuration."""
    assert "No such file" in folder.error()
    folder.checkpoint.mkdir()
    assert "Is a directory" in folder.error()
    folder.config.unlink()
    with pytest.raises(ModelError, match=str(folder.config)):
        folder.convert()


def test_an_unreadable_configuration_is_named(folder: Folder) -> None:
    """Bytes that are no text."""
    folder.config.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelError, match=str(folder.config)):
        folder.convert_saved(_state())


def test_an_existing_file_is_kept_unless_it_may_be_overwritten(folder: Folder) -> None:
    """The checkpoint is not even read for it; an overwritten file is whole, others are gone."""
    folder.out.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        folder.convert()
    assert folder.out.read_text() == "precious"
    folder.convert_saved(_state(), overwrite=True)
    load_head(folder.out)
    assert sorted(folder.path.iterdir()) == sorted([folder.checkpoint, folder.config, folder.out])


def test_others_may_read_what_the_umask_lets_them_read(folder: Folder) -> None:
    """The file has the mode of any file written here."""
    folder.convert_saved(_state())
    assert folder.out.stat().st_mode == folder.checkpoint.stat().st_mode


def test_a_file_that_appears_meanwhile_is_kept(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the last step somebody else may write."""

    def slow(*arguments: Any) -> None:
        save_file(*arguments)
        folder.out.write_text("precious")

    monkeypatch.setattr(checkpoints, "save_file", slow)
    with pytest.raises(InputError, match="exists already"):
        folder.convert_saved(_state())
    assert folder.out.read_text() == "precious"
    assert len(list(folder.path.iterdir())) == 3


def test_a_failure_leaves_the_old_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --force too, what was there stays until the new file is whole."""

    def full(_: object, path: Path, *__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    folder.out.write_text("precious")
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        folder.convert_saved(_state(), overwrite=True)
    assert folder.out.read_text() == "precious"
    assert len(list(folder.path.iterdir())) == 3


def test_the_output_may_not_be_an_input(folder: Folder) -> None:
    """Not even if it may be overwritten, and not under another name."""
    torch.save(_state(), folder.checkpoint)
    folder.out.symlink_to(folder.checkpoint)
    with pytest.raises(InputError, match="itself to be read"):
        folder.convert(overwrite=True)


def test_the_directory_must_exist(folder: Folder) -> None:
    """It is said before anything is read."""
    folder.out = folder.path / "absent" / "head.safetensors"
    with pytest.raises(InputError, match="no directory"):
        folder.convert()


def test_a_head_that_does_not_fit_its_metadata_is_refused(tmp_path: Path) -> None:
    """Our own files are held to their configuration as well."""
    path, config = (
        tmp_path / "head.safetensors",
        '{"width": 8, "heads": 2, "merge": "add", "fc": true}',
    )
    save_file(_state(), path, {"config": config})
    with pytest.raises(
        ModelError, match=r"head\.safetensors does not fit .*\[16, 16\] where \[8, 8\]"
    ):
        load_head(path)
    save_file(_state(), path)
    with pytest.raises(ModelError, match="missing key width, heads, merge, fc"):
        load_head(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot read A2P head"):
        load_head(path)
