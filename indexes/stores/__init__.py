"""Where vectors are kept and searched exactly, one video at a time: FAISS files, a LanceDB table."""
