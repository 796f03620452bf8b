// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package ldap is the plug-in "auth.ldap": a directory decides, by a bind with the client's password.
//
// The name to bind as is made of a template, or searched for. Values are escaped in names and filters; an empty password, which a directory
// takes for an anonymous bind, is refused without asking. Each login has a connection of its own, as a bind changes whose it is.
//
// Auth may be called from any goroutine; it owns none.
package ldap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// Name is the path of the plug-in.
const Name = "auth.ldap"

// Options of the plug-in. They are obeyed at restart; a reload forgets remembered answers.
type Options struct {
	// URL is ldaps://host:port or ldap://host:port.
	URL string `yaml:"url"`
	// StartTLS encrypts a connection of ldap:// before anything else is sent. Default false.
	StartTLS bool `yaml:"start_tls"`
	// UserDN is the name to bind as, such as uid=${username},ou=people,dc=example,dc=org. Without it the name is searched for.
	UserDN string `yaml:"user_dn"`
	// BindDN and BindPassword are who searches. Default: anonymous.
	BindDN       string `yaml:"bind_dn"`
	BindPassword string `yaml:"bind_password"`
	// Base is below what is searched, and Filter what is; one entry must match. Default (uid=${username}).
	Base   string `yaml:"base"`
	Filter string `yaml:"filter"`
	// GroupAttribute of the entry has groups, such as memberOf; of distinguished names the first value counts. Default: none.
	GroupAttribute string `yaml:"group_attribute"`
	// GroupBase is below what entries of groups are searched, by GroupFilter, where ${dn} is the entry's name; the groups are the values of
	// GroupName. Default: no search; (member=${dn}), cn.
	GroupBase   string `yaml:"group_base"`
	GroupFilter string `yaml:"group_filter"`
	GroupName   string `yaml:"group_name"`
	// SuperuserGroup is the group of who may do everything. Default: none.
	SuperuserGroup string `yaml:"superuser_group"`
	// Claims are attributes of the entry that are handed to rules. Default: none.
	Claims []string `yaml:"claims"`
	// Unknown says what happens to names that are not found: "deny", the default, or "ignore", which lets the next authenticator decide.
	Unknown string `yaml:"unknown_users"`
	// Require refuses clients that give no user name. Default false: they are for the next.
	Require bool `yaml:"require"`

	remote.Options    `yaml:",inline"`
	remote.TLSOptions `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Filter: "(uid=${username})", GroupFilter: "(member=${dn})", GroupName: "cn", Unknown: "deny", Options: remote.Defaults()}
}

// Auth is the plug-in. Before Start it refuses everybody.
type Auth struct {
	opts    Options
	address string // host and port
	host    string
	secure  bool
	userDN  *remote.Template // nil: search
	filter  *remote.Template
	attrs   []string
	step    *remote.Step
}

var (
	_ plugin.Authenticator = (*Auth)(nil)
	_ plugin.Starter       = (*Auth)(nil)
	_ plugin.Reloader      = (*Auth)(nil)
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

// maxPacket is the most bytes of one message of a directory.
const maxPacket = 1 << 20

var bound sync.Once

// New makes the plug-in. Nothing is connected before the first login.
func New(o Options) (*Auth, error) {
	bound.Do(func() { ber.MaxPacketLengthBytes = maxPacket }) // the library has no other way to bound an answer
	a := &Auth{opts: o}
	if err := o.Options.Check(Name); err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	return a, nil
}

func (a *Auth) check() (err error) {
	o := &a.opts
	if err := a.setURL(); err != nil {
		return err
	}
	if _, err := o.Config(a.host); err != nil {
		return err
	}
	switch {
	case o.Unknown != "deny" && o.Unknown != "ignore":
		return fmt.Errorf("unknown_users is %q; write deny or ignore", o.Unknown)
	case o.UserDN == "" && o.Base == "":
		return errors.New("there is no user_dn and no base; write the name to bind as, or where to search for it")
	case o.BindDN != "" && o.BindPassword == "":
		return errors.New("bind_dn has no bind_password; a directory takes that for an anonymous bind")
	}
	if o.UserDN != "" {
		if a.userDN, err = parse("user_dn", o.UserDN); err != nil {
			return err
		}
		if _, err := ldap.ParseDN(sample(a.userDN)); err != nil {
			return fmt.Errorf("user_dn: %q is no distinguished name", o.UserDN)
		}
	}
	if a.filter, err = parse("filter", o.Filter); err != nil {
		return err
	}
	if _, err := ldap.CompileFilter(sample(a.filter)); err != nil {
		return fmt.Errorf("filter: %q is no filter, such as (uid=${username})", o.Filter)
	}
	if o.GroupBase != "" {
		if _, err := ldap.CompileFilter(strings.ReplaceAll(o.GroupFilter, dnName, "x")); err != nil || !strings.Contains(o.GroupFilter, dnName) {
			return fmt.Errorf("group_filter: %q is no filter with ${dn}, such as (member=${dn})", o.GroupFilter)
		}
	}
	a.attrs = append([]string{"dn"}, o.Claims...)
	if o.GroupAttribute != "" {
		a.attrs = append(a.attrs, o.GroupAttribute)
	}
	return nil
}

// dnName stands for the entry's name in group_filter.
const dnName = "${dn}"

func (a *Auth) setURL() error {
	o := &a.opts
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("url: %q is not an address such as ldaps://host", o.URL)
	}
	a.secure, a.host = u.Scheme == "ldaps", u.Hostname()
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: "636", false: "389"}[a.secure]
	}
	a.address = net.JoinHostPort(a.host, port)
	if a.secure && o.StartTLS {
		return errors.New("start_tls is for ldap://; ldaps:// encrypts from the beginning")
	}
	if !a.secure && !o.StartTLS {
		if err := o.MayBePlain(a.host); err != nil {
			return fmt.Errorf("url: %w (ldaps://, or start_tls: true)", err)
		}
	}
	return nil
}

func parse(option, text string) (*remote.Template, error) {
	t, err := remote.Parse(text, "password")
	if err == nil && t.Constant() {
		err = errors.New("no ${username} or other name stands in it, so everybody would be the same user")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	return t, nil
}

// sample is a template with something harmless in the place of each name.
func sample(t *remote.Template) string {
	s, _ := t.Split(func(int) string { return "x" })
	return s
}

// Name is "auth.ldap".
func (a *Auth) Name() string { return Name }

// Start makes the plug-in ready to ask.
func (a *Auth) Start(_ context.Context, h plugin.Host) error {
	a.step = remote.NewStep(Name, a.opts.Options, h.Now, h.Logger().With("url", a.opts.URL))
	return nil
}

// Reload forgets remembered answers.
func (a *Auth) Reload(context.Context) error {
	a.step.Forget()
	return nil
}

// Authenticate asks the directory, or remembers.
func (a *Auth) Authenticate(ctx context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	switch {
	case a.step == nil:
		return plugin.Decision{}, plugin.Identity{}, errors.New(Name + ": not started")
	case !l.HasUser && !a.opts.Require:
		return plugin.Decision{}, plugin.Identity{}, nil
	case !l.HasUser || l.Client.Username == "":
		return refuse("no user name given")
	case len(l.Password) == 0: // RFC 4513, section 5.1.2
		return refuse("an empty password")
	}
	who, key := a.who(l)
	return a.step.Ask(ctx, key, func(ctx context.Context) (remote.Answer, error) { return a.ask(ctx, who, string(l.Password)) })
}

func refuse(rule string) (plugin.Decision, plugin.Identity, error) {
	d := remote.Deny(Name + ": " + rule)
	return d.Decision, d.Identity, nil
}

// who is whom a login is about: a name to bind as, or a filter to search by.
func (a *Auth) who(l *plugin.Login) (text string, key [][]byte) {
	t, escape := a.filter, ldap.EscapeFilter
	if a.userDN != nil {
		t, escape = a.userDN, ldap.EscapeDN
	}
	text, _ = t.Expand(l, func(s string) (string, error) { return escape(s), nil }) // escape has no errors
	return text, [][]byte{[]byte(text), l.Password}
}
