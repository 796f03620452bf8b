// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

// outputFormat is a format of -F taken apart.
type outputFormat struct{ parts []formatPart }

// formatPart is a piece of text, or something of the message.
type formatPart struct {
	text        string // if kind is 0
	kind        byte   // 0, %, or @
	verb        byte
	left, zero  bool
	width, most int // 0 = none
}

// parseFormat checks a format. The word json stands for %j.
func parseFormat(s string) (*outputFormat, error) {
	if s == "json" {
		s = "%j"
	}
	f := &outputFormat{}
	for s != "" {
		i := strings.IndexAny(s, `%@\`)
		if i < 0 {
			i = len(s)
		}
		if i > 0 {
			f.parts = append(f.parts, formatPart{text: s[:i]})
			s = s[i:]
			continue
		}
		p, n, err := parsePart(s)
		if err != nil {
			return nil, err
		}
		f.parts, s = append(f.parts, p), s[n:]
	}
	return f, nil
}

var escapes = map[byte]string{'\\': "\\", '0': "\x00", 'a': "\a", 'e': "\x1b", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v"}

// parsePart takes what begins with %, @ or \.
func parsePart(s string) (p formatPart, n int, err error) {
	if len(s) == 1 {
		return p, 0, fmt.Errorf("incomplete format specifier at the end")
	}
	p.kind, n = s[0], 1
	if p.kind == '%' {
		n = p.parseFlags(s, n)
		if n == len(s) {
			return p, 0, fmt.Errorf("incomplete format specifier at the end")
		}
	}
	p.verb = s[n]
	n++
	switch p.kind {
	case '\\':
		text, ok := escapes[p.verb]
		if !ok {
			return p, 0, fmt.Errorf("invalid escape specifier '%c'", p.verb)
		}
		return formatPart{text: text}, n, nil
	case '%':
		if p.verb == '%' {
			return formatPart{text: "%"}, n, nil
		}
		if !strings.ContainsRune("ACDEFIJPRSUXjlmpqrtx", rune(p.verb)) {
			return p, 0, fmt.Errorf("invalid format specifier '%c'", p.verb)
		}
	case '@':
		if p.verb == '@' {
			return formatPart{text: "@"}, n, nil
		}
		if _, ok := strftime(p.verb, time.Time{}); !ok {
			return p, 0, fmt.Errorf("invalid time specifier '%c'", p.verb)
		}
	}
	return p, n, nil
}

// parseFlags takes flags, width and maximum width of a % part, from s[n] on.
func (p *formatPart) parseFlags(s string, n int) int {
	for n < len(s) && (s[n] == '0' || s[n] == '-') {
		p.zero = p.zero || s[n] == '0'
		p.left = p.left || s[n] == '-'
		n++
	}
	digits := func() (v int) {
		for ; n < len(s) && s[n] >= '0' && s[n] <= '9'; n++ {
			v = min(v*10+int(s[n]-'0'), 10000)
		}
		return v
	}
	p.width = digits()
	if n < len(s) && s[n] == '.' {
		n++
		p.most = digits()
	}
	return n
}

// print writes a message as the flags say.
func (f *clientFlags) print(w *bufio.Writer, m *client.Message, now time.Time) {
	switch {
	case f.format != nil:
		f.printFormat(w, m, now)
	case f.verbose && len(m.Payload) == 0:
		fmt.Fprintf(w, "%s (null)", m.Topic)
	case f.verbose:
		w.WriteString(m.Topic)
		w.WriteByte(' ')
		w.Write(m.Payload)
	default:
		w.Write(m.Payload)
	}
	if !f.noEOL {
		w.WriteByte('\n')
	}
}

func (f *clientFlags) printFormat(w *bufio.Writer, m *client.Message, now time.Time) {
	for _, p := range f.format.parts {
		switch p.kind {
		case 0:
			w.WriteString(p.text)
		case '@':
			s, _ := strftime(p.verb, now)
			w.WriteString(s)
		default:
			if !f.printPart(w, &p, m, now) {
				return
			}
		}
	}
}

// printPart writes one part. It reports whether the rest is to be written too.
func (f *clientFlags) printPart(w *bufio.Writer, p *formatPart, m *client.Message, now time.Time) bool {
	switch p.verb {
	case 't':
		w.WriteString(p.pad(m.Topic, false))
	case 'p':
		w.WriteString(p.payload(string(m.Payload)))
	case 'x':
		w.WriteString(p.hex(m.Payload))
	case 'X':
		w.WriteString(strings.ToUpper(p.hex(m.Payload)))
	case 'l':
		w.WriteString(p.pad(strconv.Itoa(len(m.Payload)), true))
	case 'q':
		w.WriteString(strconv.Itoa(int(m.QoS)))
	case 'r':
		w.WriteString(map[bool]string{false: "0", true: "1"}[m.Retain])
	case 'm':
		w.WriteString(p.pad(strconv.Itoa(int(m.ID)), true))
	case 'A':
		w.WriteString(p.pad(propertyText(m, mqtt.PropTopicAlias), true))
	case 'C':
		w.WriteString(p.pad(m.ContentType, false))
	case 'D':
		w.Write(m.CorrelationData)
	case 'E':
		w.WriteString(p.pad(propertyText(m, mqtt.PropMessageExpiryInterval), true))
	case 'F':
		w.WriteString(p.pad(propertyText(m, mqtt.PropPayloadFormatIndicator), true))
	case 'P':
		for i, u := range m.User {
			if i > 0 {
				w.WriteByte(' ')
			}
			w.WriteString(u.Name + ":" + u.Value)
		}
	case 'R':
		w.WriteString(p.pad(m.ResponseTopic, false))
	case 'S':
		w.WriteString(p.pad(propertyText(m, mqtt.PropSubscriptionIdentifier), true))
	case 'I':
		w.WriteString(p.pad(now.Format("2006-01-02T15:04:05-0700"), false))
	case 'U':
		fmt.Fprintf(w, "%d.%09d", now.Unix(), now.Nanosecond())
	case 'j':
		writeMessageJSON(w, m, jsonString(m.Payload), now, f.pretty)
	case 'J':
		payload, err := parseJSON(m.Payload)
		if err != nil {
			f.warn("Error: Message payload is not valid JSON on topic %s.", m.Topic)
			return false
		}
		writeMessageJSON(w, m, payload, now, f.pretty)
	}
	return true
}

// pad brings s to the width of the part. Numbers may be padded with zeros.
func (p *formatPart) pad(s string, number bool) string {
	if p.most > 0 && !number && len(s) > p.most {
		s = s[:p.most]
	}
	fill := p.width - len(s)
	switch {
	case fill <= 0:
		return s
	case p.left:
		return s + strings.Repeat(" ", fill)
	case p.zero && number:
		return strings.Repeat("0", fill) + s
	}
	return strings.Repeat(" ", fill) + s
}

// payload is pad for payloads, which the width also cuts.
func (p *formatPart) payload(s string) string {
	if p.width > 0 && len(s) > p.width {
		s = s[:p.width]
	}
	q := *p
	q.most = 0
	return q.pad(s, true)
}

// hex is payload in hexadecimal. As in mosquitto_sub a width counts bytes of the payload before they become two digits
// each, and halves what is printed.
func (p *formatPart) hex(b []byte) string {
	if p.width > 0 {
		b = b[:min(len(b), p.width)/2]
	}
	q := *p
	q.most = 0
	return q.pad(hex.EncodeToString(b), true)
}

// propertyText is a property that is a number; empty if there is none.
func propertyText(m *client.Message, id mqtt.PropertyID) string {
	for p := range m.Properties.All() {
		if p.ID == id {
			return strconv.FormatUint(uint64(p.Uint), 10)
		}
	}
	return ""
}

// strftime formats one specifier of strftime(3) in the C locale, and N for nanoseconds. ok is false if it is not known.
func strftime(verb byte, t time.Time) (s string, ok bool) {
	if layout, ok := strftimeLayouts[verb]; ok {
		return t.Format(layout), true
	}
	year, week := t.ISOWeek()
	switch verb {
	case 'N':
		return fmt.Sprintf("%09d", t.Nanosecond()), true
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100), true
	case 'G':
		return strconv.Itoa(year), true
	case 'g':
		return fmt.Sprintf("%02d", year%100), true
	case 'V':
		return fmt.Sprintf("%02d", week), true
	case 'U':
		return fmt.Sprintf("%02d", (t.YearDay()+6-int(t.Weekday()))/7), true
	case 'W':
		return fmt.Sprintf("%02d", (t.YearDay()+6-(int(t.Weekday())+6)%7)/7), true
	case 'u':
		return strconv.Itoa((int(t.Weekday())+6)%7 + 1), true
	case 'w':
		return strconv.Itoa(int(t.Weekday())), true
	case 'k':
		return fmt.Sprintf("%2d", t.Hour()), true
	case 'l':
		return fmt.Sprintf("%2d", (t.Hour()+11)%12+1), true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case '%':
		return "%", true
	}
	return "", false
}

var strftimeLayouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02",
	'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'H': "15", 'I': "03", 'j': "002", 'm': "01", 'M': "04", 'p': "PM",
	'P': "pm", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06",
	'Y': "2006", 'z': "-0700", 'Z': "MST",
}
