package main

import "github.com/outboxstream/streamer/internal/config"

// deadLetterTopic is where rows go that cannot be published, or empty.
func deadLetterTopic(cfg config.Config) string {
	if cfg.HasDeadLetters() {
		return cfg.Poison.Topic
	}
	return ""
}
