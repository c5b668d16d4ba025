"""The crash model: real commit, recovery and publication code over a file system that forgets what was not synced."""
