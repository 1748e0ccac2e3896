package debezium

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/internal/failure"
)

// Connector is what files say about one connector.
type Connector struct {
	Name     string
	isServer bool              // it runs in Debezium Server, not in Kafka Connect
	options  map[string]option // by the name that Kafka Connect has for them
	ignored  []Entry           // what else is in the files
}

// option is a value and how its name is spelled in the file.
type option struct{ spelled, value string }

// Names that Kafka Connect gives to options of a producer, and ours for options
// that belong to neither connector nor producer.
const (
	producerPrefix = "producer.override."
	workerPrefix   = "worker."
	serverPrefix   = "server."
)

const (
	postgresClass = "io.debezium.connector.postgresql.PostgresConnector"
	routerClass   = "io.debezium.transforms.outbox.EventRouter"
)

// value returns the value of an option, or the fallback if the files do not set
// it.
func (c Connector) value(name, fallback string) string {
	if o, ok := c.options[name]; ok && o.value != "" {
		return o.value
	}
	return fallback
}

// has reports whether the files set the option.
func (c Connector) has(name string) bool {
	_, ok := c.options[name]
	return ok
}

// list returns the items of an option that is a list.
func (c Connector) list(name string) []string {
	var items []string
	for item := range strings.SplitSeq(c.value(name, ""), ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// routers are the transforms that are Outbox Event Routers, in their order.
func (c Connector) routers() []string {
	return slices.DeleteFunc(c.list("transforms"), func(name string) bool {
		return !c.isRouter(name)
	})
}

// isRouter reports whether a transform is an Outbox Event Router. Kafka Connect
// takes its class without the package, too.
func (c Connector) isRouter(transform string) bool {
	class := c.value("transforms."+transform+".type", "")
	return class == routerClass || class == shortClass(routerClass)
}

// suitable says why the connector cannot be translated, with the remedy.
func (c Connector) suitable() error {
	class := c.value("connector.class", "")
	switch {
	case class != postgresClass && class != "PostgresConnector" && class != "Postgres":
		return failure.Advise(fmt.Errorf("connector %q is of %s, not Debezium's connector for PostgreSQL", c.Name, namedClass(class)),
			"keep it: the streamer reads PostgreSQL only")
	case c.isServer && c.value("sink.type", "kafka") != "kafka":
		return failure.Advise(errors.New("this Debezium Server does not publish to Kafka: debezium.sink.type is another"),
			"keep it: the streamer publishes to Kafka only")
	case len(c.routers()) == 0:
		return failure.Advise(fmt.Errorf("connector %q has no transform of type %s", c.Name, routerClass),
			"keep it: the streamer publishes the rows of outbox tables, not changes of other tables")
	}
	return nil
}

// shortClass is the last part of a class's name, which is all that a reader
// needs.
func shortClass(class string) string { return class[strings.LastIndexByte(class, '.')+1:] }

// className is what the name of a class looks like.
var className = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

// namedClass is a class for messages. A text that is no name of a class is not
// repeated.
func namedClass(class string) string {
	if short := shortClass(class); className.MatchString(short) {
		return "class " + short
	}
	return "an unknown class"
}

// Choose returns the connector of that name, or the only one that can be
// translated. The report names the others. The error is misconfigured.
func Choose(connectors []Connector, name string) (Connector, error) {
	chosen := slices.Clone(connectors)
	if name != "" {
		chosen = slices.DeleteFunc(chosen, func(c Connector) bool { return c.Name != name })
	}
	if len(chosen) == 0 {
		return Connector{}, failure.Misconfigure(failure.Advise(
			fmt.Errorf("there is no connector %q in the files", name), "name one of: %s", names(connectors)))
	}
	var problems []error
	able := slices.DeleteFunc(slices.Clone(chosen), func(c Connector) bool {
		err := c.suitable()
		problems = append(problems, err)
		return err != nil
	})
	switch len(able) {
	case 0:
		return Connector{}, failure.Misconfigure(errors.Join(problems...))
	case 1:
		return able[0].without(connectors), nil
	}
	return Connector{}, failure.Misconfigure(failure.Advise(
		fmt.Errorf("the files hold %d connectors with an outbox event router: %s", len(able), names(able)),
		"one streamer reads one slot: name a connector with --connector, and import the others one by one"))
}

// without notes the connectors that are left out.
func (c Connector) without(all []Connector) Connector {
	for _, other := range all {
		if other.Name == c.Name {
			continue
		}
		why, action := "it has an outbox event router and a slot of its own", "import it too, with --connector"
		if err := other.suitable(); err != nil {
			why, action = err.Error(), failure.Fix(err)
		}
		c.ignored = append(slices.Clip(c.ignored), Entry{Option: fmt.Sprintf("connector %q", other.Name), Says: why, Action: action})
	}
	return c
}

func names(connectors []Connector) string {
	var all []string
	for _, c := range connectors {
		all = append(all, c.Name)
	}
	return strings.Join(all, ", ")
}
