package debezium

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/magiconair/properties"

	"github.com/outboxstream/streamer/internal/failure"
)

// readProperties reads a connector's properties, a worker's, or those of
// Debezium Server.
func readProperties(text string) (contents, error) {
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	if !utf8.ValidString(text) { // as Java reads it
		loader.Encoding = properties.ISO_8859_1
	}
	loaded, err := loader.LoadBytes([]byte(text))
	if err != nil { // the library's message may quote a value
		return contents{}, failure.Advise(errors.New("not a properties file"), "%s", failure.Fix(errForeign))
	}
	values := loaded.Map()
	for name := range values {
		if strings.HasPrefix(name, "debezium.") {
			return readServer(values)
		}
	}
	switch _, isConnector := values["connector.class"]; {
	case isConnector:
		return contents{connectors: []Connector{newConnector("", values)}}, nil
	case isWorker(values):
		worker := map[string]option{}
		for name, value := range values {
			worker[name] = option{name, strings.TrimSpace(value)}
		}
		return contents{worker: worker}, nil
	}
	return contents{}, errForeign
}

// isWorker reports whether these are the properties of a Connect worker.
func isWorker(values map[string]string) bool {
	_, hasServers := values["bootstrap.servers"]
	_, hasConverter := values["value.converter"]
	return hasServers && hasConverter
}

// serverPrefixes are what Debezium Server puts before the names of Kafka
// Connect.
var serverPrefixes = []struct{ theirs, ours string }{
	{"debezium.source.", ""},
	{"debezium.sink.kafka.producer.", producerPrefix},
	{"debezium.sink.", "sink."},
	{"debezium.transforms", "transforms"},
	{"debezium.predicates", "predicates"},
	{"debezium.format.key", "key.converter"},
	{"debezium.format.value", "value.converter"},
	{"debezium.format.header", "header.converter"},
	{"debezium.format.", "format."},
}

// serverFormats are the converters behind the formats of Debezium Server.
var serverFormats = map[string]string{
	"json":          jsonConverter,
	"jsonbytearray": jsonConverter,
	"simplestring":  stringConverter,
	"binary":        "io.debezium.converters.BinaryDataConverter",
}

func readServer(values map[string]string) (contents, error) {
	c := Connector{Name: "debezium-server", isServer: true, options: map[string]option{}}
	for spelled, value := range values {
		name := serverPrefix + spelled
		for _, p := range serverPrefixes {
			if rest, ok := strings.CutPrefix(spelled, p.theirs); ok {
				name = p.ours + rest
				break
			}
		}
		c.options[name] = option{spelled, strings.TrimSpace(expand(name, value, values))}
	}
	if !c.has("connector.class") {
		return contents{}, failure.Advise(errors.New("debezium.source.connector.class is not set"), "%s", failure.Fix(errForeign))
	}
	for _, name := range converters {
		o, isSet := c.options[name]
		if class, known := serverFormats[o.value]; known {
			c.options[name] = option{o.spelled, class}
		} else if !isSet {
			c.options[name] = option{"", jsonConverter} // the default
		}
	}
	return contents{connectors: []Connector{c}}, nil
}

// serverExpression is ${NAME} or ${NAME:fallback}. With another $ before it,
// Debezium Server takes it as it is.
var serverExpression = regexp.MustCompile(`\$?\$\{([^}:]*)(:[^}]*)?\}`)

// longestValue bounds how long a value may become, in bytes: expressions that
// lead to two others each grow without limit.
const longestValue = 64 << 10

// expand replaces what other properties of the file say. What comes from
// elsewhere becomes a reference to the environment, without its fallback, which
// may be a password.
func expand(name, value string, values map[string]string) string {
	for range len(values) { // an expression may lead to another one
		before := value
		value = serverExpression.ReplaceAllStringFunc(value, func(found string) string {
			m := serverExpression.FindStringSubmatch(found)
			other, isProperty := values[m[1]]
			switch {
			case strings.HasPrefix(found, "$$"), isReplacement(name):
				return found
			case isProperty:
				return other
			case m[1] == "env":
				return found
			}
			return fmt.Sprintf("${env:%s}", m[1])
		})
		if value == before || len(value) > longestValue {
			break
		}
	}
	return strings.ReplaceAll(value, "$${", "${")
}
