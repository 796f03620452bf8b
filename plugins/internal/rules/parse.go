// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/noctule/noctule/plugins/internal/textfile"
)

// Read reads a file of rules: ours, or Mosquitto's if its first line that says something begins with user, topic or pattern. All lines are
// read, or none; an error is a *textfile.Error.
func Read(f *textfile.File) (*Set, error) {
	list, order, err := readLines(f)
	if err != nil {
		return nil, err
	}
	return Compile(list, order), nil
}

func readLines(f *textfile.File) ([]Rule, Order, error) {
	for _, line := range f.Lines {
		if textfile.Comment(line) {
			continue
		}
		switch word, _ := cutBlank(line); word {
		case "allow", "deny", "order":
			return readOurs(f, false)
		case "user", "topic", "pattern":
			list, err := readMosquitto(f)
			return list, FirstMatch, err
		}
		break
	}
	return readOurs(f, false)
}

// Bounds of the rules about one client.
const (
	MaxOwn      = 1024
	MaxOwnBytes = 256 << 10
)

// Own reads rules that are about one client, a line each: in our language, where who may be left out, and lines topic and pattern of
// Mosquitto's; of these, those that deny go before all others. name is where they come from, for messages and Rule.Line. More than MaxOwn rules,
// or MaxOwnBytes, are an error.
func Own(name string, lines []string) (*Set, error) {
	if len(lines) > MaxOwn {
		return nil, fmt.Errorf("%s: there are %d rules; %d are the most", name, len(lines), MaxOwn)
	}
	size := 0
	for i, line := range lines {
		if size += len(line); size > MaxOwnBytes {
			return nil, fmt.Errorf("%s: the rules are longer than %d bytes", name, MaxOwnBytes)
		}
		if !textfile.Printable(line) {
			return nil, fmt.Errorf("%s:%d: it has a control character or is not UTF-8", name, i+1)
		}
	}
	list, order, err := readOurs(&textfile.File{Path: name, Lines: lines}, true)
	if err != nil {
		return nil, err
	}
	return Compile(list, order), nil
}

// readOurs reads our language:
//
//	order first|specific                         at most once, before the rules; first if not given
//	allow|deny WHO... ACTION [qos=N] [retain=yes|no] FILTER...
//
// WHO is any of: any, anonymous, user NAME, client ID, group NAME, address NETWORK, cert.cn TEXT, cert.san TEXT, cert.issuer TEXT,
// claim.NAME TEXT; all of them have to hold, and where a list with commas is given, one of it. ACTION is publish, subscribe or both.
//
// own says that WHO may be missing, and that there may be lines of Mosquitto's.
func readOurs(f *textfile.File, own bool) ([]Rule, Order, error) {
	var list, first []Rule
	order, ordered := FirstMatch, false
	for i, line := range f.Lines {
		if textfile.Comment(line) {
			continue
		}
		var found []Rule
		var err error
		switch word, rest := cutBlank(line); {
		case word == "order":
			if ordered || len(list) > 0 {
				err = errors.New("order stands once, before the rules")
			} else {
				order, err = parseOrder(rest)
			}
			ordered = true
		case word == "allow" || word == "deny":
			found, err = parseRule(word == "allow", rest, own)
		case own && (word == "topic" || word == "pattern"):
			found = make([]Rule, 1)
			err = found[0].parseMosquitto(word, rest)
		case word == "user" || word == "topic" || word == "pattern":
			err = fmt.Errorf("%s is a line of Mosquitto's format, and the lines above are not; use one of the two in a file", word)
		default:
			err = fmt.Errorf("a line begins with allow, deny, order or # (in Mosquitto's format with user, topic, pattern or #), not with %q", word)
		}
		if err != nil {
			return nil, order, &textfile.Error{Path: f.Path, Line: i + 1, Text: err.Error()}
		}
		name := fmt.Sprintf("%s:%d", f.Base(), i+1)
		for j := range found {
			found[j].Line = name
		}
		if len(found) == 1 && found[0].mosquitto && !found[0].Allow {
			first = append(first, found...)
			continue
		}
		list = append(list, found...)
	}
	return append(first, list...), order, nil
}

func parseOrder(rest string) (Order, error) {
	switch rest {
	case "first":
		return FirstMatch, nil
	case "specific":
		return MostSpecific, nil
	}
	return 0, errors.New("write order first (the first rule that matches decides) or order specific (the most exact one does)")
}

// parseRule reads what follows allow or deny: a rule for each filter.
func parseRule(allow bool, line string, own bool) ([]Rule, error) {
	words, err := split(line)
	if err != nil {
		return nil, err
	}
	r := Rule{Allow: allow}
	rest, err := r.Who.parse(words, own)
	if err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		return nil, errors.New("the action is missing: publish, subscribe or both, then a topic filter")
	}
	switch rest[0].text {
	case "publish":
		r.Actions = Publish
	case "subscribe":
		r.Actions = Subscribe
	case "both":
		r.Actions = Both
	}
	if action := rest[0].text; r.Actions == 0 || rest[0].quoted {
		return nil, fmt.Errorf("%q is neither an action (publish, subscribe, both) nor says who (any, anonymous, user, client, group, address, "+
			"cert.cn, cert.san, cert.issuer, claim.NAME)", action)
	}
	rest = rest[1:]
	for ; len(rest) > 0 && !rest[0].quoted; rest = rest[1:] {
		name, value, ok := strings.Cut(rest[0].text, "=")
		if !ok || name != "qos" && name != "retain" {
			break
		}
		if err := r.condition(name, value); err != nil {
			return nil, err
		}
	}
	if len(rest) == 0 {
		return nil, errors.New("a topic filter is missing at the end")
	}
	list := make([]Rule, len(rest))
	for i, w := range rest {
		list[i] = r
		if list[i].Filter, err = ParseFilter(w.text); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (r *Rule) condition(name, value string) error {
	if name == "retain" {
		switch {
		case r.Actions == Subscribe:
			return errors.New("retain= is a condition on what is published; a subscription has none")
		case r.Retain != AnyRetain:
			return errors.New("retain= stands once")
		case value == "yes":
			r.Retain = OnlyRetained
		case value == "no":
			r.Retain = NotRetained
		default:
			return fmt.Errorf("write retain=yes or retain=no, not retain=%s", value)
		}
		return nil
	}
	if r.QoS != 0 {
		return errors.New("qos= stands once; write a list: qos=0,1")
	}
	for v := range strings.SplitSeq(value, ",") {
		if len(v) != 1 || v[0] < '0' || v[0] > '2' {
			return fmt.Errorf("write qos=0, qos=1, qos=2 or a list as qos=0,1, not qos=%s", value)
		}
		r.QoS |= 1 << (v[0] - '0')
	}
	return nil
}

// parse reads who a rule is about, and gives what follows; given says that this may be nothing.
func (w *Who) parse(words []word, given bool) (rest []word, err error) {
	for len(words) > 0 && !words[0].quoted {
		kind := words[0].text
		switch kind {
		case "publish", "subscribe", "both":
			if !given {
				return nil, errors.New("who is missing: write any for everybody")
			}
			return words, nil
		case "any", "anonymous":
			if kind == "anonymous" {
				if len(w.Users) > 0 {
					return nil, errors.New("nobody is anonymous and has a user name; write two rules")
				}
				w.Users = []string{""}
			}
			words, given = words[1:], true
			continue
		}
		if !isCondition(kind) {
			break
		}
		if len(words) < 2 {
			return nil, fmt.Errorf("%s needs a value", kind)
		}
		if err := w.add(kind, words[1].list); err != nil {
			return nil, err
		}
		words, given = words[2:], true
	}
	if !given && len(words) == 0 {
		return nil, errors.New("who is missing: write any for everybody")
	}
	return words, nil
}

func isCondition(kind string) bool {
	switch kind {
	case "user", "client", "group", "address", "cert.cn", "cert.san", "cert.issuer":
		return true
	}
	name, ok := strings.CutPrefix(kind, "claim.")
	return ok && name != ""
}

func (w *Who) add(kind string, values []string) error {
	for _, v := range values {
		if v == "" {
			return fmt.Errorf("%s has an empty value", kind)
		}
	}
	once := func(to *[]string) error {
		if len(*to) > 0 {
			return fmt.Errorf("%s stands once in a rule; write a list: %s a,b", kind, kind)
		}
		*to = values
		return nil
	}
	switch kind {
	case "user":
		return once(&w.Users)
	case "client":
		return once(&w.Clients)
	case "group":
		return once(&w.Groups)
	case "address":
		for _, v := range values {
			n, err := parseNetwork(v)
			if err != nil {
				return err
			}
			w.Addresses = append(w.Addresses, n)
		}
		return nil
	}
	f := Field{Source: Claim, Values: values}
	switch kind {
	case "cert.cn":
		f.Source = CertCN
	case "cert.san":
		f.Source = CertSAN
	case "cert.issuer":
		f.Source = CertIssuer
	default:
		f.Name = strings.TrimPrefix(kind, "claim.")
	}
	w.Fields = append(w.Fields, f)
	return nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(s)
	if err != nil || n.Addr().Is4In6() {
		return n, fmt.Errorf("%q is no address and no network such as 10.0.0.0/8 or fd00::/8", s)
	}
	if n != n.Masked() {
		return n, fmt.Errorf("%q has bits beyond its length; write %v", s, n.Masked())
	}
	return n, nil
}

// word is a piece of a line, with blanks around it; list is what it says as a list with commas.
type word struct {
	text   string
	list   []string
	quoted bool // some of it was in quotes
}

// split cuts a line at blanks. Text in double quotes may hold blanks, commas, and with \ before it " and \.
func split(line string) (words []word, err error) {
	for i := 0; ; {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		if i == len(line) {
			return words, nil
		}
		var w word
		if w, i, err = nextWord(line, i); err != nil {
			return nil, err
		}
		words = append(words, w)
	}
}

func nextWord(line string, i int) (word, int, error) {
	var w word
	var text, item strings.Builder
	for i < len(line) && line[i] != ' ' && line[i] != '\t' {
		switch {
		case line[i] == '"' && item.Len() == 0:
			end, err := unquote(line, i, &item)
			if err != nil {
				return w, i, err
			}
			if end < len(line) && line[end] != ',' && line[end] != ' ' && line[end] != '\t' {
				return w, i, fmt.Errorf("after a closing quote comes a blank or a comma, not %q", line[end:])
			}
			text.WriteString(item.String())
			w.quoted, i = true, end
		case line[i] == ',':
			text.WriteByte(',')
			w.list = append(w.list, item.String())
			item.Reset()
			i++
		default:
			text.WriteByte(line[i])
			item.WriteByte(line[i])
			i++
		}
	}
	w.text, w.list = text.String(), append(w.list, item.String())
	return w, i, nil
}

// unquote reads a quoted text that begins at i, and gives where it ends.
func unquote(line string, i int, to *strings.Builder) (int, error) {
	for i++; i < len(line); i++ {
		switch c := line[i]; c {
		case '"':
			return i + 1, nil
		case '\\':
			i++
			if i == len(line) || line[i] != '"' && line[i] != '\\' {
				return i, errors.New(`in quotes, \ stands before " and \ only`)
			}
			to.WriteByte(line[i])
		default:
			to.WriteByte(c)
		}
	}
	return i, errors.New(`a quote " is not closed`)
}

// cutBlank splits off the first word.
func cutBlank(s string) (word, rest string) {
	s = strings.Trim(s, " \t")
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " \t")
	}
	return s, ""
}

// Line is a rule about one client, put together: permission is allow or deny, action is publish, subscribe, both or all, qos and retain
// are the conditions or empty. The filter may have anything in it.
func Line(permission, action, qos, retain, filter string) (string, error) {
	switch {
	case permission != "allow" && permission != "deny":
		return "", fmt.Errorf("permission is %.32q; it is allow or deny", permission)
	case action == "all":
		action = "both"
	case action != "publish" && action != "subscribe" && action != "both":
		return "", fmt.Errorf("action is %.32q; it is publish, subscribe, both or all", action)
	}
	for _, c := range [][2]string{{"qos", qos}, {"retain", retain}} {
		if strings.ContainsAny(c[1], " \t\"") {
			return "", fmt.Errorf("%s is %.32q", c[0], c[1])
		}
		if c[1] != "" {
			action += " " + c[0] + "=" + c[1]
		}
	}
	return permission + " " + action + ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(filter) + `"`, nil
}
