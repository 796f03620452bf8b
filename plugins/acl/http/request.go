// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// request is the templates of a request. Immutable.
type request struct {
	method    string
	perAccess bool
	base      string // scheme, host and port
	path      *remote.Template
	query     text
	headers   []field // by canonical name
	fields    []field
}

type field struct {
	name  string
	value text
}

func newRequest(o *Options) (*request, error) {
	r := &request{method: o.Method, perAccess: o.Per == "access"}
	if o.Method != http.MethodPost && o.Method != http.MethodGet {
		return nil, fmt.Errorf("method is %q; write POST or GET", o.Method)
	}
	if err := r.setURL(o); err != nil {
		return nil, err
	}
	given := o.Fields
	if given == nil {
		given = map[string]string{"username": "${username}", "clientid": "${clientid}", "address": "${address}"}
		if r.perAccess {
			for _, name := range accessNames {
				given[name] = "${" + name + "}"
			}
		}
	}
	var err error
	if r.fields, err = r.fieldsOf("fields", given); err != nil {
		return nil, err
	}
	if r.headers, err = r.fieldsOf("headers", o.Headers); err != nil {
		return nil, err
	}
	for i := range r.headers {
		h := &r.headers[i]
		switch h.name = http.CanonicalHeaderKey(h.name); {
		case h.name == "" || strings.ContainsFunc(h.name, func(c rune) bool { return c <= ' ' || c >= 0x7F || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) }):
			return nil, fmt.Errorf("headers: %q is no name of a header", h.name)
		case h.name == "Content-Length" || h.name == "Host" || h.name == "Transfer-Encoding":
			return nil, fmt.Errorf("headers: %s cannot be chosen", h.name)
		}
	}
	return r, nil
}

// setURL takes the address apart, so that a value never gets into another part of it.
func (r *request) setURL(o *Options) error {
	rest, query, _ := strings.Cut(o.URL, "?")
	scheme, after, ok := strings.Cut(rest, "://")
	host, path, _ := strings.Cut(after, "/")
	if !ok || strings.Contains(host, "${") {
		return fmt.Errorf("url: %q is not an address such as https://host/path without a template in its host", o.URL)
	}
	r.base = scheme + "://" + host
	u, err := o.CheckURL(r.base)
	switch {
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case u.User != nil:
		return errors.New("url: a password stands in the address; send it as a header, Authorization")
	case strings.Contains(o.URL, "#"):
		return errors.New("url: there is a # in it, and what follows is never sent; remove it")
	}
	if r.path, err = remote.Parse("/"+path, "password"); err != nil {
		return fmt.Errorf("url: %w; topic, action, qos and retain stand in the query or in fields", err)
	}
	if r.query, err = r.parse(query); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	return nil
}

func (r *request) fieldsOf(option string, m map[string]string) ([]field, error) {
	var out []field
	for _, name := range slices.Sorted(maps.Keys(m)) {
		t, err := r.parse(m[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", option, name, err)
		}
		out = append(out, field{name, t})
	}
	return out, nil
}

// accessNames are what stands in templates beside the names of package remote, with per: access.
var accessNames = []string{"action", "topic", "qos", "retain"}

// text is a template in pieces: those of package remote, and names of the access.
type text []piece

type piece struct {
	client *remote.Template
	access string
}

// parse reads a template. $${ stands for ${.
func (r *request) parse(s string) (text, error) {
	var t text
	add := func(s string) error {
		p, err := remote.Parse(s, "password")
		t = append(t, piece{client: p})
		return err
	}
	for from := 0; ; {
		at, name := nextAccess(s, from)
		if name == "" {
			return t, add(s)
		}
		if at > 0 && s[at-1] == '$' {
			from = at + 1
			continue
		}
		if !r.perAccess {
			return nil, fmt.Errorf("%q: ${%s} is known with per: access only", s, name)
		}
		if err := add(s[:at]); err != nil {
			return nil, err
		}
		t = append(t, piece{access: name})
		s, from = s[at+len(name)+len("${}"):], 0
	}
}

// nextAccess finds the first name of the access in a template.
func nextAccess(s string, from int) (at int, name string) {
	for _, n := range accessNames {
		if i := strings.Index(s[from:], "${"+n+"}"); i >= 0 && (name == "" || from+i < at) {
			at, name = from+i, n
		}
	}
	return at, name
}

func (t text) expand(l *plugin.Login, a *plugin.Access, escape func(string) (string, error)) (string, error) {
	var b strings.Builder
	for _, p := range t {
		var s string
		var err error
		if p.client != nil {
			s, err = p.client.Expand(l, escape)
		} else {
			s, err = escape(accessValue(a, p.access))
		}
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func accessValue(a *plugin.Access, name string) string {
	switch name {
	case "action":
		if a.Action == plugin.Will {
			return plugin.Publish.String()
		}
		return a.Action.String()
	case "topic":
		return a.Topic
	case "qos":
		return strconv.Itoa(int(a.QoS))
	}
	return strconv.FormatBool(a.Retain)
}

// filled is a request with its values: all that decides.
type filled struct {
	url     string
	headers [][2]string
	body    []byte // nil with GET
}

// fill puts values in. A value that cannot stand in its place is an error.
func (r *request) fill(a *plugin.Access) (*filled, error) {
	l := &plugin.Login{Client: a.Client}
	if a.Client.Anonymous { // a name that nobody vouches for is none
		c := *a.Client
		c.Username = ""
		l.Client = &c
	}
	path, err := r.path.Expand(l, escapePath)
	if err != nil {
		return nil, err
	}
	query, err := r.query.expand(l, a, func(s string) (string, error) { return url.QueryEscape(s), nil })
	if err != nil {
		return nil, err
	}
	f := &filled{}
	for _, h := range r.headers {
		v, err := h.value.expand(l, a, checkHeader)
		if err != nil {
			return nil, err
		}
		f.headers = append(f.headers, [2]string{h.name, v})
	}
	values := map[string]string{}
	for _, x := range r.fields {
		if values[x.name], err = x.value.expand(l, a, checkUTF8); err != nil {
			return nil, err
		}
	}
	if r.method == http.MethodGet {
		v := url.Values{}
		for name, s := range values {
			v.Set(name, s)
		}
		query = strings.Trim(query+"&"+v.Encode(), "&")
	} else if f.body, err = json.Marshal(values); err != nil {
		return nil, err
	}
	if f.url = r.base + path; query != "" {
		f.url += "?" + query
	}
	return f, nil
}

// key is all that decides; lengths stand before what has them, so that no two requests have the same.
func (f *filled) key() string {
	var b strings.Builder
	for _, s := range append([][2]string{{f.url, string(f.body)}}, f.headers...) {
		fmt.Fprintf(&b, "%d:%s%d:%s", len(s[0]), s[0], len(s[1]), s[1])
	}
	return b.String()
}

func (f *filled) build(ctx context.Context, method string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, f.url, bytes.NewReader(f.body))
	if err != nil {
		return nil, err
	}
	if f.body == nil {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "noctule")
	for _, h := range f.headers {
		req.Header.Set(h[0], h[1])
	}
	return req, nil
}

// escapePath makes a value one element of a path. Servers read some elements otherwise, escaped or not: these are refused.
func escapePath(s string) (string, error) {
	if s == "" || s == "." || s == ".." || strings.ContainsAny(s, `/\`) || strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		return "", errors.New("a value cannot stand in the path of an address")
	}
	return url.PathEscape(s), nil
}

func checkHeader(s string) (string, error) {
	if strings.TrimSpace(s) != s || strings.ContainsFunc(s, unicode.IsControl) {
		return "", errors.New("a value cannot stand in a header")
	}
	return s, nil
}

// checkUTF8 refuses what JSON cannot hold: bytes that are not UTF-8 would all look the same.
func checkUTF8(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errors.New("a value is not UTF-8")
	}
	return s, nil
}
