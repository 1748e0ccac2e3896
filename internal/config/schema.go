package config

import (
	"encoding/json"
	"strings"
)

// Schema returns a JSON Schema (draft 2020-12) of the configuration file, with
// which editors complete and check keys.
func Schema() []byte {
	schema := sectionSchema(root, plain(root, valueOf(Default())))
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "Configuration of streamer"
	encoded, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic("config: encode the JSON Schema: " + err.Error()) //nolint:forbidigo // the schema consists of maps, lists and texts only
	}
	return append(encoded, '\n')
}

// sectionSchema takes the defaults of the section; nil for records, which have
// none.
func sectionSchema(k *key, defaults map[string]any) map[string]any {
	properties := map[string]any{}
	for _, c := range k.children {
		var property map[string]any
		switch c.kind {
		case kindSection:
			inside, _ := defaults[c.name].(map[string]any)
			property = sectionSchema(c, inside)
		case kindRecords:
			items := sectionSchema(c, nil)
			items = requiring(items, strings.Split(c.required, "|"))
			property = map[string]any{"type": "array", "items": items}
		default:
			property = settingSchema(c)
			if value, ok := defaults[c.name]; ok {
				property["default"] = value
			}
		}
		property["description"] = c.doc
		properties[c.name] = property
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}

// requiring demands one of these keys.
func requiring(items map[string]any, keys []string) map[string]any {
	if len(keys) == 1 {
		items["required"] = keys
		return items
	}
	var alternatives []any
	for _, key := range keys {
		alternatives = append(alternatives, map[string]any{"required": []string{key}})
	}
	items["oneOf"] = alternatives
	return items
}

func settingSchema(k *key) map[string]any {
	property := map[string]any{"type": "string"}
	switch k.kind {
	case kindBoolean:
		property["type"] = "boolean"
	case kindInteger:
		property["type"] = "integer"
		if k.min != "" {
			property["minimum"] = bound(k, k.min)
		}
		if k.max != "" {
			property["maximum"] = bound(k, k.max)
		}
	case kindSize:
		property["type"] = []string{"string", "integer"}
		property["pattern"] = `^[0-9]+ *([KMG]i)?B?$`
	case kindDuration:
		property["pattern"] = `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`
	case kindList:
		property["type"] = []string{"array", "string"}
		property["items"] = map[string]any{"type": "string"}
	case kindTable:
		property["type"] = "object"
		property["additionalProperties"] = map[string]any{"type": []string{"string", "number", "boolean"}}
	default: // a text
	}
	if k.enum != nil {
		property["enum"] = k.enum
	}
	return property
}
