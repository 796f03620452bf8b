// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package http is the plug-in "acl.http": an HTTP server says who may publish and subscribe to what.
//
// Mostly it is asked once for each client, when that connects, and answers with rules in the language of acl.file (docs/acl.md), which decide
// from then on. With per: access it is asked about each topic, and answers allow, deny or ignore.
//
// What is remembered, for how long, and what holds while the server is away: package source. Any goroutine may ask.
package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
	"github.com/noctule/noctule/plugins/internal/source"
)

// Name is the path of the plug-in.
const Name = "acl.http"

// Options of the plug-in. They are obeyed at restart; a reload has answers asked for anew.
type Options struct {
	// URL is asked. Path and query may have templates, host and port not.
	URL string `yaml:"url"`
	// Per is "client", the default: one question for all rights of a client; or "access": one for each topic.
	Per string `yaml:"per"`
	// Method is POST, the default, or GET.
	Method string `yaml:"method"`
	// Headers are sent along; values may have templates.
	Headers map[string]string `yaml:"headers"`
	// Fields are sent, as JSON or with GET in the query; values may have templates. Default username, clientid and address, with per: access
	// action, topic, qos and retain too.
	Fields map[string]string `yaml:"fields"`

	source.Options    `yaml:",inline"`
	remote.TLSOptions `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Per: "client", Method: http.MethodPost, Options: source.Defaults()}
}

// ACL is the plug-in. Before Start it denies everything.
type ACL struct {
	*source.Source
	request *request
	client  *http.Client
}

var (
	_ plugin.ReceiveAuthorizer = (*ACL)(nil)
	_ plugin.SlowAuthorizer    = (*ACL)(nil)
	_ plugin.Preparer          = (*ACL)(nil)
	_ plugin.Starter           = (*ACL)(nil)
	_ plugin.Stopper           = (*ACL)(nil)
	_ plugin.Reloader          = (*ACL)(nil)
)

func init() {
	plugin.Register(Name, func(decode func(any) error) (plugin.Plugin, error) {
		o := Defaults()
		if err := decode(&o); err != nil {
			return nil, err
		}
		return New(o)
	})
}

// New makes the plug-in. Nobody is asked before Start.
func New(o Options) (*ACL, error) {
	a := &ACL{}
	if err := o.Options.Check(Name); err != nil {
		return nil, err
	}
	if o.Per != "client" && o.Per != "access" {
		return nil, fmt.Errorf("%s: per is %q; write client (one question for all rights of a client) or access (one for each topic)", Name, o.Per)
	}
	var err error
	if a.request, err = newRequest(&o); err == nil {
		a.client, err = o.NewHTTPClient(o.Parallel)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	a.Source = source.New(Name, o.Options, o.Per == "access", a.question)
	return a, nil
}

// Stop ends what is asked, and closes connections that rest.
func (a *ACL) Stop(ctx context.Context) error {
	err := a.Source.Stop(ctx)
	a.client.CloseIdleConnections()
	return err
}

func (a *ACL) question(x *plugin.Access) (source.Question, error) {
	f, err := a.request.fill(x)
	if err != nil {
		return source.Question{}, err
	}
	return source.Question{Key: f.key(), Load: func(ctx context.Context) (source.Answer, error) { return a.ask(ctx, f) }}, nil
}

func (a *ACL) ask(ctx context.Context, f *filled) (source.Answer, error) {
	req, err := f.build(ctx, a.request.method)
	if err != nil {
		return source.Answer{}, remote.WithoutURL(err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return source.Answer{}, remote.WithoutURL(err)
	}
	defer resp.Body.Close()
	return a.read(resp)
}

// maxAnswer is the most bytes of an answer that is read.
const maxAnswer = 512 << 10

// body is a JSON answer.
type body struct {
	Result *string  `json:"result"`
	Rules  []string `json:"rules"`
}

// read makes an answer of a response. A status says something only about a single access: one about all rights of a client has to be in words.
func (a *ACL) read(resp *http.Response) (source.Answer, error) {
	switch {
	case resp.StatusCode == 401 || resp.StatusCode == 403 || resp.StatusCode == 404:
		return source.Answer{Verdict: plugin.Deny}, nil
	case resp.StatusCode == 204 && a.request.perAccess:
		return source.Answer{Verdict: plugin.Allow}, nil
	case resp.StatusCode != 200:
		return source.Answer{}, fmt.Errorf("the answer has status %d; it is 200 with a JSON object, or 401, 403 or 404 to deny", resp.StatusCode)
	}
	text, err := remote.ReadBody(resp, maxAnswer)
	if err != nil {
		return source.Answer{}, err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json") || bytes.HasPrefix(bytes.TrimSpace(text), []byte("{"))
	if !isJSON && a.request.perAccess {
		return source.Answer{Verdict: plugin.Allow}, nil
	}
	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		return source.Answer{}, errors.New("the answer is not the JSON object that it should be, with result or rules")
	}
	out := source.Answer{Rules: b.Rules}
	switch {
	case b.Result == nil && b.Rules == nil:
		return source.Answer{}, errors.New("the answer has neither result nor rules")
	case b.Result == nil:
	case *b.Result == "allow":
		out.Verdict = plugin.Allow
	case *b.Result == "deny":
		out.Verdict = plugin.Deny
	case *b.Result == "ignore":
		out.None = len(b.Rules) == 0
	default:
		return source.Answer{}, fmt.Errorf("the answer has result %.32q; it is allow, deny or ignore", *b.Result)
	}
	return out, nil
}
