package debezium

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/outboxstream/streamer/internal/failure"
)

// readJSON reads a connector in the form of the REST interface, its bare
// configuration, a manifest of Strimzi, a list of these, or the reply to GET
// /connectors?expand=info.
func readJSON(content []byte) (contents, error) {
	items, err := decodeJSON(content)
	if err != nil {
		return contents{}, failure.Advise(fmt.Errorf("not JSON: %w", plainSyntax(err)), "save the reply of Kafka Connect as it is")
	}
	var found contents
	for _, item := range items {
		object, ok := item.(map[string]any)
		if !ok {
			return contents{}, errForeign
		}
		one, err := readObject(object)
		if err != nil {
			return contents{}, err
		}
		found.add(one)
	}
	return found, nil
}

// decodeJSON returns the documents, and the items of those that are lists.
func decodeJSON(content []byte) ([]any, error) {
	var items []any
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber() // as they are written
	for {
		var document any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		if err != nil {
			return nil, err
		}
		if list, isList := document.([]any); isList {
			items = append(items, list...)
		} else {
			items = append(items, document)
		}
	}
}

// plainSyntax leaves out what the error quotes of the text.
func plainSyntax(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("syntax error at byte %d", syntax.Offset)
	}
	return errors.New("it ends too early")
}

func readObject(object map[string]any) (contents, error) {
	if _, ok := object["kind"].(string); ok && object["apiVersion"] != nil {
		return readManifest(object)
	}
	if config, ok := object["config"].(map[string]any); ok {
		name, _ := object["name"].(string)
		return oneConnector(name, config)
	}
	if _, ok := object["connector.class"]; ok {
		return oneConnector("", object)
	}
	return readExpanded(object)
}

// readExpanded reads connectors by their names, each with its info.
func readExpanded(object map[string]any) (contents, error) {
	var found contents
	for _, name := range slices.Sorted(maps.Keys(object)) {
		entry, _ := object[name].(map[string]any)
		info, ok := entry["info"].(map[string]any)
		if !ok {
			return contents{}, errForeign
		}
		config, _ := info["config"].(map[string]any)
		one, err := oneConnector(name, config)
		if err != nil {
			return contents{}, err
		}
		found.add(one)
	}
	if len(found.connectors) == 0 {
		return contents{}, errForeign
	}
	return found, nil
}

func oneConnector(name string, config map[string]any) (contents, error) {
	if _, ok := config["connector.class"]; !ok {
		return contents{}, errForeign
	}
	values := map[string]string{}
	for key, value := range config {
		switch value := value.(type) {
		case nil:
			continue // as if it were not there, for Kafka Connect too
		case map[string]any, []any:
			return contents{}, failure.Advise(fmt.Errorf("option %q is not a single value", key), "write the option as Kafka Connect takes it")
		default:
			values[key] = fmt.Sprint(value)
		}
	}
	return contents{connectors: []Connector{newConnector(name, values)}}, nil
}
