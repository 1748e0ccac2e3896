package debezium

import "slices"

// failures translates what happens to rows that fail, and what a start does
// about events that were published before.
func (t *translator) failures() {
	const tolerance, poison = "errors.tolerance", "poison.policy"
	if t.value(tolerance, "none") == "all" {
		t.set(poison, "dead-letter", "The connector tolerates errors: it drops such rows.")
		t.differs(tolerance, "a row that can never be published is not dropped: it becomes a record in poison.topic",
			"the operator, who decides about dead letters with streamer dead-letters", poison)
	} else {
		t.same(tolerance, "a row that can never be published stops the streamer", poison)
	}
	const handling = "event.processing.failure.handling.mode"
	if t.value(handling, "fail") == "fail" {
		t.same(handling, "what cannot be decoded stops the streamer")
	} else {
		t.differs(handling, "what cannot be decoded stops the streamer; nothing is skipped", "the operator, who has to act then", poison)
	}
	t.resume()
	const skipped = "skipped.operations"
	if slices.Contains(t.list(skipped), "c") {
		t.lacks(skipped, "the connector skips inserts, so its router publishes nothing", "check that this is the connector that you mean")
	} else {
		t.same(skipped, "the streamer publishes inserts only")
	}
}

func (t *translator) resume() {
	const name, key = "exactly.once.support", "kafka.resume"
	resume := "auto"
	if t.value(name, "requested") == "required" {
		resume = "exactly_once"
	}
	if t.has(name) {
		t.set(key, resume)
	}
	t.differs(name, "nothing is repeated after a crash either, but events are not in transactions",
		"consumers: read_committed is no longer needed, and does no harm", key)
}
