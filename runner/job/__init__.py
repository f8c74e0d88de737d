"""One job from its options to its report; every rank calls it alike."""
