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
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// request is the templates of a request. Immutable.
type request struct {
	method  string
	base    string // scheme, host and port
	path    *remote.Template
	query   *remote.Template
	headers []field // by canonical name
	fields  []field
	body    string // json, form or query
}

type field struct {
	name  string
	value *remote.Template
}

func newRequest(o *Options) (*request, error) {
	r := &request{method: o.Method, body: o.Body}
	switch {
	case o.Method != http.MethodPost && o.Method != http.MethodPut && o.Method != http.MethodGet:
		return nil, fmt.Errorf("method is %q; write POST, PUT or GET", o.Method)
	case r.body == "" && o.Method == http.MethodGet:
		r.body = "query"
	case r.body == "":
		r.body = "json"
	}
	if r.body != "json" && r.body != "form" && r.body != "query" || (r.body == "query") != (o.Method == http.MethodGet) {
		return nil, fmt.Errorf("body is %q; write json or form, with GET query", o.Body)
	}
	if err := r.setURL(o); err != nil {
		return nil, err
	}
	given := o.Fields
	if given == nil {
		given = map[string]string{"username": "${username}", "password": "${password}", "clientid": "${clientid}"}
	}
	var err error
	if r.fields, err = fieldsOf("fields", given); err != nil {
		return nil, err
	}
	if r.headers, err = fieldsOf("headers", o.Headers); err != nil {
		return nil, err
	}
	for i := range r.headers {
		h := &r.headers[i]
		if !token(h.name) {
			return nil, fmt.Errorf("headers: %q is no name of a header", h.name)
		}
		if h.name = http.CanonicalHeaderKey(h.name); h.name == "Content-Length" || h.name == "Host" || h.name == "Transfer-Encoding" {
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
	if r.path, err = remote.Parse("/" + path); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if r.query, err = remote.Parse(query); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	return nil
}

func fieldsOf(option string, m map[string]string) ([]field, error) {
	var out []field
	for _, name := range slices.Sorted(maps.Keys(m)) {
		t, err := remote.Parse(m[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", option, name, err)
		}
		out = append(out, field{name, t})
	}
	return out, nil
}

// filled is a request with its values: all that decides about a login.
type filled struct {
	url, kind string
	headers   [][2]string
	body      []byte
}

// fill puts a login's values in.
func (r *request) fill(l *plugin.Login) (*filled, error) {
	path, err := r.path.Expand(l, escapePath)
	if err != nil {
		return nil, err
	}
	query, err := r.query.Expand(l, func(s string) (string, error) { return url.QueryEscape(s), nil })
	if err != nil {
		return nil, err
	}
	q := &filled{}
	for _, h := range r.headers {
		v, err := h.value.Expand(l, checkHeader)
		if err != nil {
			return nil, err
		}
		q.headers = append(q.headers, [2]string{h.name, v})
	}
	switch r.body {
	case "json":
		q.kind = "application/json"
		if q.body, err = r.json(l); err != nil {
			return nil, err
		}
	case "form":
		q.kind, q.body = "application/x-www-form-urlencoded", []byte(r.form(l))
	default:
		query = strings.Trim(query+"&"+r.form(l), "&")
	}
	q.url = r.base + path
	if query != "" {
		q.url += "?" + query
	}
	return q, nil
}

func (r *request) form(l *plugin.Login) string {
	v := url.Values{}
	for _, f := range r.fields {
		text, _ := f.value.Expand(l, remote.Verbatim) // which has no errors
		v.Set(f.name, text)
	}
	return v.Encode()
}

// json refuses what JSON cannot hold: bytes that are not UTF-8 would all look the same.
func (r *request) json(l *plugin.Login) ([]byte, error) {
	m := map[string]string{}
	for _, f := range r.fields {
		text, err := f.value.Expand(l, func(s string) (string, error) {
			if !utf8.ValidString(s) {
				return "", errors.New("a value is not UTF-8, so JSON cannot hold it")
			}
			return s, nil
		})
		if err != nil {
			return nil, err
		}
		m[f.name] = text
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(m)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// escapePath makes a value one element of a path. Servers read some elements otherwise, escaped or not: these are refused.
func escapePath(s string) (string, error) {
	if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\\") || strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		return "", errors.New("a value cannot stand in the path of an address")
	}
	return url.PathEscape(s), nil
}

// token reports whether s is one (RFC 9110, section 5.6.2).
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func checkHeader(s string) (string, error) {
	if strings.TrimSpace(s) != s || strings.ContainsFunc(s, unicode.IsControl) {
		return "", errors.New("a value cannot stand in a header")
	}
	return s, nil
}

// key is all that decides, for the memory.
func (q *filled) key() [][]byte {
	k := [][]byte{[]byte(q.url), q.body}
	for _, h := range q.headers {
		k = append(k, []byte(h[0]), []byte(h[1]))
	}
	return k
}

func (q *filled) build(ctx context.Context, method string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.kind == "" {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	} else {
		req.Header.Set("Content-Type", q.kind)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "noctule")
	for _, h := range q.headers {
		req.Header.Set(h[0], h[1])
	}
	return req, nil
}
