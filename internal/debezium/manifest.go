package debezium

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"

	"go.yaml.in/yaml/v3"

	"github.com/outboxstream/streamer/internal/failure"
)

// readManifests reads YAML with manifests of Strimzi.
func readManifests(content []byte) (contents, error) {
	var found contents
	for decoder := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return contents{}, failure.Advise(errors.New("not YAML"), "save the manifest as `kubectl get kafkaconnector -o yaml` prints it")
		}
		if object == nil {
			continue
		}
		one, err := readManifest(object)
		if err != nil {
			return contents{}, err
		}
		found.add(one)
	}
	if len(found.connectors) == 0 {
		return contents{}, failure.Advise(errors.New("no manifest of kind KafkaConnector"), "%s", failure.Fix(errForeign))
	}
	return found, nil
}

// readManifest reads a KafkaConnector, or a list of them. Others are noted.
func readManifest(object map[string]any) (contents, error) {
	kind, _ := object["kind"].(string)
	metadata, _ := object["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	spec, _ := object["spec"].(map[string]any)
	switch kind {
	case "List", "KafkaConnectorList":
		items, _ := object["items"].([]any)
		var found contents
		for _, item := range items {
			inner, _ := item.(map[string]any)
			one, err := readManifest(inner)
			if err != nil {
				return contents{}, err
			}
			found.add(one)
		}
		return found, nil
	case "KafkaConnector":
		return readSpec(name, spec)
	}
	return contents{ignored: []Entry{{
		Option: fmt.Sprintf("manifest %s %q", kind, name), Says: "only manifests of kind KafkaConnector are read",
		Action: "if it describes the Connect cluster, set kafka.brokers, kafka.tls and kafka.sasl as it does",
	}}}, nil
}

// readSpec reads the options of a connector, of which Strimzi has some outside
// of config.
func readSpec(name string, spec map[string]any) (contents, error) {
	config, _ := spec["config"].(map[string]any)
	values := maps.Clone(config)
	if values == nil {
		values = map[string]any{}
	}
	for field, option := range map[string]string{"class": "connector.class", "tasksMax": "tasks.max"} {
		if value, ok := spec[field]; ok {
			values[option] = value
		}
	}
	return oneConnector(name, values)
}
