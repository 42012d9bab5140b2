"""All measurements that need a GPU, in stages that fit into minutes of its time."""
