// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
)

// SchemaID is the name of the schema, which editors fetch it by.
const SchemaID = "https://noctule.dev/schema/noctule.schema.json"

// reference matches a value that is kept elsewhere.
const reference = `\$\{(env|file):[^}]+\}`

// object is a JSON object.
type object = map[string]any

// Schema is the JSON Schema (2020-12) of the configuration, for editors.
func Schema() []byte {
	s := tree.schema("")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = SchemaID
	s["title"] = "Noctule configuration"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("config: schema: " + err.Error()) // maps and strings only
	}
	return append(b, '\n')
}

// schema describes the section behind a prefix.
func (t *table) schema(prefix string) object {
	properties := object{}
	var holder any = Default()
	if t.make != nil {
		holder = t.make()
	}
	for _, name := range t.below(prefix) {
		if o := t.find(prefix + name); o != nil {
			properties[name] = o.schema(holder)
			continue
		}
		group := t.schema(prefix + name + ".")
		group["type"] = []string{"object", "null"}
		group["description"] = t.groups[prefix+name]
		properties[name] = group
	}
	return object{"type": "object", "additionalProperties": false, "properties": properties}
}

func (o *option) schema(holder any) object {
	s := o.shape()
	s["description"] = o.doc + " [" + o.reload.String() + "]"
	if o.kind != sections && o.kind != plugins && o.kind != texts {
		if d, ok := o.defaultValue(holder); ok {
			s["default"] = d
		}
	}
	return s
}

// defaultValue is the default as JSON has it.
func (o *option) defaultValue(holder any) (any, bool) {
	value := o.value(holder)
	switch {
	case o.kind == toggle:
		return value == "true", true
	case o.kind == count:
		return json.Number(value), true
	case o.kind == text && value == "":
		return nil, false
	}
	return value, true
}

// shape describes the values that an option takes.
func (o *option) shape() object {
	switch o.kind {
	case word:
		return object{"anyOf": []object{{"enum": o.words}, elsewhere()}}
	case toggle:
		return object{"anyOf": []object{{"type": "boolean"}, elsewhere()}}
	case count:
		n := object{"type": "integer", "minimum": o.min}
		if o.max != 0 {
			n["maximum"] = o.max
		}
		return object{"anyOf": []object{n, elsewhere()}}
	case size:
		return object{"anyOf": []object{{"const": 0}, {"type": "string", "pattern": `^[0-9]+(\.[0-9]+)? ?(B|KB|kB|KiB|MB|MiB|GB|GiB)$|^0$`}, elsewhere()}}
	case span:
		return object{"anyOf": []object{{"const": 0}, {"type": "string", "pattern": `^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^[0-9]+[dw]$|^0$`}, elsewhere()}}
	case texts:
		return object{"type": "array", "items": object{"type": "string"}}
	case sections:
		return object{"type": "array", "items": o.of.schema("")}
	case plugins:
		return object{"type": "array", "items": object{
			"type": "object", "required": []string{"name"},
			"properties": object{"name": object{"type": "string", "description": "The plug-in's name, such as auth.file."}},
		}}
	}
	return object{"type": "string"}
}

// elsewhere is a value that is kept elsewhere.
func elsewhere() object {
	return object{"type": "string", "pattern": reference}
}
