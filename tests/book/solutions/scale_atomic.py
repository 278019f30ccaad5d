import os


def store(data, path):
    """All or nothing: the name appears when every byte is there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(data)
    os.replace(temporary, path)
