"""AutoAttack, Linf (Croce, Hein, arXiv:2003.01690), written from the papers."""
