package debezium

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/outboxstream/streamer/internal/config"
)

const compatibilityKey = "cloudevents.compatibility"

// compatibility finds out whether consumers of the connector can read the
// streamer's records, and in which flavour.
func (t *translator) compatibility() {
	flavour, err := t.compatible()
	if err != nil {
		t.incompatible = err.Error()
		t.remark(compatibilityKey, "Not set, because "+t.incompatible+".")
		return
	}
	t.flavour = flavour
	t.set(compatibilityKey, flavour, "Consumers of the connector read these records as before. Leave it empty once there are none.")
	if flavour == config.DebeziumServer && !t.isServer {
		t.remark(compatibilityKey, "The connector's header.converter writes headers as Debezium Server does.")
	}
}

// compatible returns the flavour of the connector's records. The error says what
// in them the streamer does not write.
func (t *translator) compatible() (flavour string, err error) {
	if flavour, err = t.headerFlavour(); err != nil {
		return "", err
	}
	for _, part := range []struct{ option, name string }{{"key.converter", "keys"}, {"value.converter", "values"}} {
		if !t.has(part.option) {
			return "", fmt.Errorf("the files do not say how %s are written: import the worker's properties as well", part.name)
		}
		if t.writes(part.option) != asText {
			return "", fmt.Errorf("%s are not the text of their column with the connector's converter", part.name)
		}
	}
	if err := t.alteredRecords(); err != nil {
		return "", err
	}
	for _, name := range t.routers() {
		r := t.trial(name)
		if err := r.alteredEvents(flavour); err != nil {
			return "", err
		}
	}
	return flavour, nil
}

// trial is a router whose translation leaves no traces.
func (t *translator) trial(name string) *router {
	apart := &translator{
		Connector: t.Connector, settings: map[string]string{}, remarks: map[string]string{}, findings: map[string]finding{},
	}
	r := apart.router(name)
	r.columns()
	return r
}

// headerFlavour is how headers are written. Without a converter, Kafka Connect
// has SimpleHeaderConverter.
func (t *translator) headerFlavour() (string, error) {
	const name = "header.converter"
	class := strings.TrimSuffix(strings.ToLower(shortClass(t.value(name, ""))), "converter")
	switch {
	case slices.Contains([]string{"", "simple", "simpleheader", "string"}, class):
		return config.DebeziumConnect, nil
	case t.writes(name) == asJSONText:
		return config.DebeziumServer, nil
	case t.writes(name) == asEnvelope:
		return "", errors.New("headers have a schema: schemas.enable is true for them")
	}
	return "", errors.New("the connector's converter writes headers in another way")
}

// exactTimes are the values of time.precision.mode with which Debezium writes
// times as the streamer does.
var exactTimes = []string{"adaptive", "adaptive_time_microseconds"}

// alteringOptions change what is in records.
var alteringOptions = []string{"column.mask.", "column.truncate.", "converters", "post.processors"}

// alteredRecords says what changes the records apart from the routers.
func (t *translator) alteredRecords() error {
	for option, o := range t.options {
		begins := func(altering string) bool { return strings.HasPrefix(option, altering) }
		if o.value != "" && slices.ContainsFunc(alteringOptions, begins) {
			return errors.New("an option of the connector changes records in a way that the streamer does not: converters, post.processors " +
				"or a mask")
		}
	}
	if !slices.Contains(exactTimes, t.value("time.precision.mode", exactTimes[0])) {
		return errors.New("times have another form: time.precision.mode")
	}
	if t.value("binary.handling.mode", "bytes") != "bytes" {
		return errors.New("bytes are written as text: binary.handling.mode")
	}
	if shortClass(t.value(partitionerClass, defaultPartitioner)) != defaultPartitioner || t.isTrue(partitionerIgnoresKeys, false) {
		return errors.New("the connector chooses partitions in another way than by the key")
	}
	for _, name := range t.list("transforms") {
		if !t.isRouter(name) && !t.has("transforms."+name+".predicate") {
			return errors.New("a transform besides the router may change its records")
		}
	}
	return nil
}

// alteredEvents says what the router makes of rows that the streamer does not.
func (r *router) alteredEvents(flavour string) error {
	if r.isTrue(r.option("table.expand.json.payload"), false) {
		return errors.New("payloads are expanded: they are written again in other bytes")
	}
	name := r.option("table.fields.additional.placement")
	value := r.value(name, "")
	if _, isReference := findReference(name, value); isReference {
		return errors.New("the placed columns are kept elsewhere")
	}
	if value == "" {
		return nil
	}
	var aliases []string
	for field := range strings.SplitSeq(value, ",") {
		p, ok := parsePlaced(field)
		if !ok {
			return errors.New("an entry of the placed columns is not column:placement:alias")
		}
		if err := r.alteredPlacement(p, flavour); err != nil {
			return err
		}
		if p.where == "header" && slices.Contains(aliases, p.alias) {
			return errors.New("two columns are placed as the same header")
		}
		aliases = append(aliases, p.alias)
	}
	return nil
}

func (r *router) alteredPlacement(p placed, flavour string) error {
	switch {
	case p.where == "envelope":
		return errors.New("columns are placed in the envelope: the value is not the payload alone")
	case p.where == "partition" && !r.isServer:
		return errors.New("a column is placed as the number of the partition")
	case p.where != "header":
		return nil
	case p.alias == "id":
		return errors.New("another column is placed as the header id")
	}
	header, _ := r.attribute(p)
	isSame := header == p.alias || header == "ce_"+p.alias && slices.Contains(plainAttributes, p.alias)
	if !isFree(p.alias) && (flavour != config.DebeziumConnect || !isSame) {
		return errors.New("a column is placed as a header that the streamer writes itself, in another way")
	}
	return nil
}

// isFree reports whether outbox.headers takes the name of a header.
func isFree(alias string) bool {
	lower := strings.ToLower(alias)
	isTaken := alias == "id" || slices.Contains(plainAttributes, lower) || strings.HasPrefix(lower, "ce_") ||
		strings.HasPrefix(lower, "streamer-")
	return !isTaken && !strings.ContainsFunc(alias, unicode.IsControl)
}

// plainAttributes are attributes that are headers by their own name.
var plainAttributes = []string{"content-type", "traceparent", "tracestate"}
