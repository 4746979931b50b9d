"""What the verbs of ``pipeline`` do, file to file: each module reads finished stages and writes one."""
