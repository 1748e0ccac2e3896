package pipeline

// noteLoose reports messages that were written outside of transactions. They
// have no place in the order of commits, and would be published even if the
// transaction that wrote them were rolled back, so they are not published.
func (s *session) noteLoose() {
	l := s.decoder.Loose()
	if l.Count == 0 {
		return
	}
	s.config.Metrics.Loose(l.Count)
	s.log.Warn("messages outside of transactions are not published: write them with pg_logical_emit_message(true, …)",
		"prefix", l.Prefix, "messages", l.Count, "last", l.Last.String())
}
