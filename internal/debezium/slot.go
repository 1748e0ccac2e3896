package debezium

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// longestIdentifier is PostgreSQL's limit for names, in bytes.
const longestIdentifier = 63

// slot translates the replication slot and the publication. Where the file does
// not name them, they have Debezium's default names.
func (t *translator) slot() {
	t.named("slot.name", "postgres.slot", "debezium")
	t.plugin()
	t.named("publication.name", "postgres.publication", "dbz_publication")
	t.publication()
	t.copied("status.update.interval.ms", "postgres.status_interval", milliseconds)
	switch {
	case t.isTrue("slot.drop.on.stop", false):
		t.lacks("slot.drop.on.stop", "the streamer never drops its slot, because rows would be lost", "drop it yourself if it is for a test")
	default:
		t.same("slot.drop.on.stop", "the streamer never drops its slot")
	}
}

// named takes over a name, or Debezium's default.
func (t *translator) named(option, key, fallback string) {
	name, ok := t.literal(option, key)
	if !ok && t.has(option) {
		return
	}
	if name == "" {
		name = fallback
		t.remark(key, "Debezium's default.")
	}
	t.set(key, name)
	t.same(option, "", key)
}

// plugin notes what becomes of a slot with another plugin, which the streamer
// cannot read.
func (t *translator) plugin() {
	const name, key = "plugin.name", "postgres.slot"
	slot := t.settings[key]
	plugin := t.value(name, "decoderbufs")
	if plugin == "pgoutput" {
		t.same(name, "the only plugin that the streamer reads")
		return
	}
	other := slot + "_streamer"
	if slot == "" || len(other) > longestIdentifier {
		other = "streamer"
	}
	t.set(key, other)
	t.remark(key, fmt.Sprintf("The connector's slot %s has another plugin than pgoutput, so the streamer needs a slot of its own.", slot))
	how := "the streamer reads the plugin pgoutput only, so it needs a new slot: " + other
	const concerns = "the switch-over: what is committed before the new slot exists is only in the old one"
	t.differs(name, how, concerns, key)
	t.differs("slot.name", how, concerns, key)
	t.assumed(name, "decoderbufs")
}

func (t *translator) publication() {
	const name, key = "publication.autocreate.mode", "postgres.publication"
	switch t.value(name, "all_tables") {
	case "disabled":
		t.same(name, "run creates no publication; setup creates one that is missing")
	case "filtered":
		t.same(name, "setup creates one with the outbox tables, if it is missing", key)
	default:
		t.differs(name, "setup creates a publication of the outbox tables and their inserts, if there is none. One that Debezium has created "+
			"for all tables works too, but the server then sends the changes of all of them",
			"the server's load: create a publication of the outbox tables and name it in postgres.publication", key)
		t.assumed(name, "all_tables")
	}
	const root = "publish.via.partition.root"
	if t.isTrue(root, false) {
		t.same(root, "")
	} else {
		t.differs(root, "the streamer needs publish_via_partition_root = true where the table is partitioned; setup and doctor say so",
			"partitioned outbox tables")
	}
}

// start translates what happens to rows from before the slot.
func (t *translator) start() {
	const name, key = "snapshot.mode", "snapshot.mode"
	switch mode := t.value(name, "initial"); mode {
	case "no_data", "never", "schema_only":
		t.same(name, "", key)
	case "initial", "initial_only":
		t.differs(name, "the streamer publishes what is committed after the slot was created. What the connector took from the table at its "+
			"own first start is not published again", "a first start on a table with rows that were never published: set snapshot.mode: initial "+
			"and snapshot.order_by", key)
	default:
		t.differs(name, "the streamer never takes the table again by itself", "operators who relied on that: streamer replay --from-table "+
			"publishes rows again", key)
	}
	t.assumed(name, "initial")
	t.set(key, "none")
}

// assumed notes what became of an option that has its default, where that
// matters.
func (t *translator) assumed(name, fallback string) {
	if t.has(name) {
		return
	}
	e := t.findings[name].entry
	e.Option = fmt.Sprintf("%s (not set: %s)", name, fallback)
	t.notes = append(t.notes, e)
}

// milliseconds turns a number of them into a duration.
func milliseconds(text string) (string, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text) + "ms")
	if err != nil || d < 0 {
		return "", errors.New("its value is not a number of milliseconds")
	}
	return d.String(), nil
}
