// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

// jsonNode is a value of JSON whose members keep their order and may repeat, as those of a message of 5.0 do.
type jsonNode struct {
	text    string // of a scalar, as it is written
	kind    byte   // 0, { or [
	members []jsonMember
}

type jsonMember struct {
	name  string // of an object
	value jsonNode
}

func (n *jsonNode) add(name string, v jsonNode) { n.members = append(n.members, jsonMember{name, v}) }

func jsonNumber(v uint32) jsonNode { return jsonNode{text: strconv.FormatUint(uint64(v), 10)} }

// jsonString quotes a string. Bytes that are not UTF-8 become U+FFFD.
func jsonString[T string | []byte](s T) jsonNode {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range string(s) {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return jsonNode{text: b.String()}
}

// parseJSON reads a payload that is one value of JSON. An empty one is null.
func parseJSON(payload []byte) (jsonNode, error) {
	if len(payload) == 0 {
		return jsonNode{text: "null"}, nil
	}
	if !utf8.Valid(payload) {
		return jsonNode{}, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	n, err := parseNode(d, 0)
	if err != nil {
		return n, err
	}
	if _, err := d.Token(); err != io.EOF {
		return n, errors.New("more than one value")
	}
	return n, nil
}

// maxJSONDepth bounds the nesting of payloads, which come from strangers.
const maxJSONDepth = 1000

func parseNode(d *json.Decoder, depth int) (n jsonNode, err error) {
	if depth > maxJSONDepth {
		return n, errors.New("nested too deep")
	}
	t, err := d.Token()
	if err != nil {
		return n, err
	}
	switch v := t.(type) {
	case json.Delim:
		n.kind = byte(v)
		for d.More() {
			name := ""
			if v == '{' {
				key, err := d.Token()
				if err != nil {
					return n, err
				}
				name = key.(string) // the decoder lets nothing else through
			}
			child, err := parseNode(d, depth+1)
			if err != nil {
				return n, err
			}
			n.add(name, child)
		}
		_, err = d.Token() // the closing one
		return n, err
	case string:
		return jsonString(v), nil
	case json.Number:
		n.text = v.String()
	case bool:
		n.text = strconv.FormatBool(v)
	default:
		n.text = "null"
	}
	return n, nil
}

// write writes compactly, or as cJSON does for people: objects on many lines, arrays on one.
func (n *jsonNode) write(w *bufio.Writer, pretty bool, depth int) {
	if n.kind == 0 {
		w.WriteString(n.text)
		return
	}
	w.WriteByte(n.kind)
	for i, m := range n.members {
		if i > 0 {
			w.WriteByte(',')
		}
		if n.kind == '{' {
			if pretty {
				w.WriteString("\n" + strings.Repeat("\t", depth+1))
			}
			name := jsonString(m.name)
			w.WriteString(name.text + ":")
			if pretty {
				w.WriteByte('\t')
			}
		} else if pretty && i > 0 {
			w.WriteByte(' ')
		}
		m.value.write(w, pretty, depth+1)
	}
	if n.kind == '{' && pretty {
		w.WriteString("\n" + strings.Repeat("\t", depth))
	}
	w.WriteByte(n.kind + 2) // the closing one, in ASCII
}

// writeMessageJSON writes %j and %J.
func writeMessageJSON(w *bufio.Writer, m *client.Message, payload jsonNode, now time.Time, pretty bool) {
	n := jsonNode{kind: '{'}
	n.add("tst", jsonString(now.Format("2006-01-02T15:04:05.000000Z-0700"))) // sic: so does mosquitto_sub
	n.add("topic", jsonString(m.Topic))
	n.add("qos", jsonNumber(uint32(m.QoS)))
	retain := uint32(0)
	if m.Retain {
		retain = 1
	}
	n.add("retain", jsonNumber(retain))
	n.add("payloadlen", jsonNumber(uint32(len(m.Payload))))
	if m.QoS > 0 {
		n.add("mid", jsonNumber(uint32(m.ID)))
	}
	if p := jsonProperties(m); len(p.members) > 0 {
		n.add("properties", p)
	}
	if len(m.Payload) == 0 {
		payload = jsonNode{text: "null"}
	}
	n.add("payload", payload)
	n.write(w, pretty, 0)
}

// jsonProperties takes the properties in the order in which they came, user properties together.
func jsonProperties(m *client.Message) jsonNode {
	n := jsonNode{kind: '{'}
	user := false
	for p := range m.Properties.All() {
		switch p.ID {
		case mqtt.PropUserProperty:
			if user {
				continue
			}
			user = true
			all := jsonNode{kind: '{'}
			for _, u := range m.User {
				all.add(u.Name, jsonString(u.Value))
			}
			n.add("user-properties", all)
		case mqtt.PropContentType, mqtt.PropResponseTopic, mqtt.PropCorrelationData:
			n.add(commandName(p.ID), jsonString(p.Value))
		default:
			n.add(commandName(p.ID), jsonNumber(p.Uint))
		}
	}
	return n
}
