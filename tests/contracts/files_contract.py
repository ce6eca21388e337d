"""What every `Files` layer must do; subclasses give the fixture `files`."""

from __future__ import annotations

import threading
import time

import pytest

from birdstack.store.files import Files


class FilesContract:
    """The promises a store rests on."""

    @pytest.fixture
    def files(self) -> Files:
        """An empty layer."""
        raise NotImplementedError

    def test_put_new_creates_and_refuses_to_replace(self, files: Files) -> None:
        """The first content of a name stays."""
        files.put_new("log/1.json", b"first")
        with pytest.raises(FileExistsError):
            files.put_new("log/1.json", b"second")
        assert files.read("log/1.json") == b"first"

    def test_one_of_many_racing_writers_wins(self, files: Files) -> None:
        """16 threads, 30 names: exactly one `put_new` of each succeeds, and its bytes stay."""
        start = threading.Barrier(16)
        won: list[tuple[str, bytes]] = []

        def write(writer: int) -> None:
            start.wait()
            for name in range(30):
                data = f"{writer}".encode() * 100
                try:
                    files.put_new(f"log/{name}", data)
                except FileExistsError:
                    continue
                won.append((f"log/{name}", data))

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(path for path, _ in won) == sorted(f"log/{name}" for name in range(30))
        assert all(files.read(path) == data for path, data in won)

    def test_put_replaces(self, files: Files) -> None:
        """The last content of a name stays."""
        files.put("pins/a.json", b"1")
        files.put("pins/a.json", b"22")
        assert files.read("pins/a.json") == b"22"

    def test_a_missing_file(self, files: Files) -> None:
        """Reading, opening: FileNotFoundError; deleting: nothing."""
        with pytest.raises(FileNotFoundError):
            files.read("views/none")
        with pytest.raises(FileNotFoundError):
            files.open("views/none")
        files.delete("views/none")

    def test_staged_appears_whole(self, files: Files) -> None:
        """Nothing is there before the clean exit, everything afterwards."""
        with files.staged("views/v/part-1.parquet") as aside:
            aside.write_bytes(b"abc")
            assert files.list("views/v") == []
            with pytest.raises(FileNotFoundError):
                files.read("views/v/part-1.parquet")
        assert files.read("views/v/part-1.parquet") == b"abc"
        assert files.list("views/v") == ["part-1.parquet"]

    def test_staged_that_fails_leaves_nothing(self, files: Files) -> None:
        """An exception inside: no file, no temporary file."""

        def fail() -> None:
            with files.staged("views/v/part-1.parquet") as aside:
                aside.write_bytes(b"half")
                message = "in the middle"
                raise ZeroDivisionError(message)

        with pytest.raises(ZeroDivisionError):
            fail()
        assert list(files.walk("")) == []

    def test_local_copy(self, files: Files) -> None:
        """A path with the same bytes and the same ending."""
        files.put("views/a.parquet", b"bytes")
        with files.local_copy("views/a.parquet") as path:
            assert path.read_bytes() == b"bytes"
            assert path.suffix == ".parquet"

    def test_list_is_one_level(self, files: Files) -> None:
        """Names of files directly in a folder; none for a folder that is not there."""
        for path in ("log/1", "log/2", "log/deep/3", "logs/4"):
            files.put(path, b"x")
        assert sorted(files.list("log")) == ["1", "2"]
        assert files.list("nowhere") == []

    def test_walk_is_all_levels(self, files: Files) -> None:
        """Every file below, with size and time; a like-named neighbour is not below."""
        before = time.time()
        files.put("views/a/1", b"x")
        files.put("views/2", b"xyz")
        files.put("views2/3", b"xyz")
        found = {info.path: info for info in files.walk("views")}
        assert {path: info.n_bytes for path, info in found.items()} == {
            "views/a/1": 1,
            "views/2": 3,
        }
        assert all(abs(info.modified_s - before) < 60 for info in found.values())
        assert len(list(files.walk(""))) == 3
        assert list(files.walk("nowhere")) == []

    def test_delete(self, files: Files) -> None:
        """Gone is gone, and its name is free again."""
        files.put_new("log/1", b"x")
        files.delete("log/1")
        assert files.list("log") == []
        files.put_new("log/1", b"y")
        assert files.read("log/1") == b"y"

    def test_random_reads(self, files: Files) -> None:
        """Any range, kept or not, is the file's; past the end there is less or nothing."""
        data = bytes(range(256)) * 40
        files.put("views/a", data)
        file = files.open("views/a")
        assert file.n_bytes == len(data)
        for prefetched in (False, True):
            if prefetched:
                file.prefetch([(100, 50), (5000, 1000)])
                file.prefetch([])
            for offset, length in ((0, 4), (100, 50), (110, 5), (90, 100), (5500, 400), (0, 10240)):
                assert bytes(file.read_at(offset, length)) == data[offset : offset + length]
            assert bytes(file.read_at(len(data) - 3, 100)) == data[-3:]
            assert bytes(file.read_at(len(data), 5)) == b""
        file.close()

    def test_an_empty_file(self, files: Files) -> None:
        """It can be written, listed, opened and read."""
        files.put("views/empty", b"")
        assert files.read("views/empty") == b""
        file = files.open("views/empty")
        assert (file.n_bytes, bytes(file.read_at(0, 10))) == (0, b"")
        file.close()

    def test_odd_names(self, files: Files) -> None:
        """Dots, dashes and digits, as part and recipe names have them."""
        path = "views/logits/lite0.v-2/0123456789ab/part-0f.parquet"
        files.put(path, b"x")
        assert [info.path for info in files.walk("views")] == [path]
        assert files.read(path) == b"x"
