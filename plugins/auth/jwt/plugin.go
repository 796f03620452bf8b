// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package jwt is the plug-in "auth.jwt": clients log in with a signed token (RFC 7519), as password, as user name, or by the
// authentication method of MQTT 5.0.
//
// Keys come from files and from a JSON Web Key Set (RFC 7517), a file or an address. Each key is bound to the algorithms of its kind, so a token
// chooses no algorithm; "none" does not exist. A set that cannot be read changes nothing: the last good one stays in force. A token
// whose key is unknown has the set fetched again, once in ten seconds at most, however many clients ask.
//
// Keys in use are immutable and swapped as a whole, so all hooks may be called from any goroutine. A started Auth owns one goroutine,
// which looks at the files and fetches the set.
package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// Name is the path of the plug-in.
const Name = "auth.jwt"

// Options of the plug-in. They are obeyed at restart; files are read again at reload and when they change.
type Options struct {
	// Keys verify tokens.
	Keys []KeyOptions `yaml:"keys"`
	// JWKS is a JSON Web Key Set: a file, or an address of https.
	JWKS string `yaml:"jwks"`
	// JWKSRefresh is how often a set is fetched, 10s to 1d. Default 10m.
	JWKSRefresh time.Duration `yaml:"jwks_refresh"`
	// TLSOptions are for fetching.
	remote.TLSOptions `yaml:",inline"`
	// From says where the token is: "password", the default, or "username".
	From string `yaml:"from"`
	// Method is the authentication method of MQTT 5.0 whose data is the token. Default JWT.
	Method string `yaml:"method"`
	// Issuer is what the claim iss must be. Default: any.
	Issuer string `yaml:"issuer"`
	// Audience has what the claim aud must name one of. Default: any.
	Audience []string `yaml:"audience"`
	// Leeway is how wrong clocks may be, 0s to 10m. Default 30s.
	Leeway time.Duration `yaml:"leeway"`
	// AllowNoExpiry takes tokens without exp. Default false.
	AllowNoExpiry bool `yaml:"allow_no_expiry"`
	// UsernameClaim becomes the user name. Default sub. "none" leaves the client's, which Require must then check.
	UsernameClaim string `yaml:"username_claim"`
	// GroupsClaim has the groups, a list or a text parted by commas or blanks. Default groups.
	GroupsClaim string `yaml:"groups_claim"`
	// RulesClaim has rules for this client alone: lines of acl.file, or lists of filters under pub, sub and all. Default acl.
	RulesClaim string `yaml:"rules_claim"`
	// Require has claims and what they must be, such as device: ${clientid}.
	Require map[string]string `yaml:"require"`
	// Others says what happens to who shows no token: "ignore", the default, lets the next authenticator decide; or "deny".
	Others string `yaml:"others"`
}

// KeyOptions are one key, or those of one file.
type KeyOptions struct {
	// ID is the key's identifier (kid). Default: it serves for tokens of any.
	ID string `yaml:"id"`
	// File has public keys or certificates in PEM.
	File string `yaml:"file"`
	// SecretFile has the secret of HS256, HS384 and HS512; a line end at its end does not belong to it.
	SecretFile string `yaml:"secret_file"`
	// Secret is it itself.
	Secret string `yaml:"secret"`
	// Base64 says that the secret is written so. Default false.
	Base64 bool `yaml:"base64"`
	// Algorithms are those that the key serves for. Default: all of its kind.
	Algorithms []string `yaml:"algorithms"`
}

// Auth is the plug-in. Before Start it refuses everybody.
type Auth struct {
	opts    Options
	require map[string]*remote.Template
	now     func() time.Time
	log     *slog.Logger
	client  *http.Client // nil without an address
	keys    keyring

	running context.Context // until Stop
	stop    context.CancelFunc
	done    sync.WaitGroup
}

var (
	_ plugin.Authenticator         = (*Auth)(nil)
	_ plugin.EnhancedAuthenticator = (*Auth)(nil)
	_ plugin.Starter               = (*Auth)(nil)
	_ plugin.Stopper               = (*Auth)(nil)
	_ plugin.Reloader              = (*Auth)(nil)
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

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{JWKSRefresh: 10 * time.Minute, From: "password", Method: "JWT", Leeway: 30 * time.Second,
		UsernameClaim: "sub", GroupsClaim: "groups", RulesClaim: "acl", Others: "ignore"}
}

// New makes the plug-in. Files are read, and the set is fetched, by Start.
func New(o Options) (*Auth, error) {
	a := &Auth{opts: o, require: map[string]*remote.Template{}}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	return a, nil
}

func (a *Auth) check() error {
	o := &a.opts
	switch {
	case o.From != "password" && o.From != "username":
		return fmt.Errorf("from is %q; write password or username", o.From)
	case o.Others != "ignore" && o.Others != "deny":
		return fmt.Errorf("others is %q; write ignore or deny", o.Others)
	case o.Leeway < 0 || o.Leeway > 10*time.Minute:
		return fmt.Errorf("leeway is %v; write 0s to 10m", o.Leeway)
	case o.JWKSRefresh < 10*time.Second || o.JWKSRefresh > 24*time.Hour:
		return fmt.Errorf("jwks_refresh is %v; write 10s to 1d", o.JWKSRefresh)
	case o.Method == "" || o.UsernameClaim == "":
		return errors.New("method and username_claim must not be empty")
	case len(o.Keys) == 0 && o.JWKS == "":
		return errors.New("there is no key; name some under keys, or a set under jwks")
	}
	for i := range o.Keys {
		if err := o.Keys[i].check(); err != nil {
			return fmt.Errorf("keys[%d]: %w", i, err)
		}
	}
	checksName := false
	for claim, text := range o.Require {
		t, err := remote.Parse(text, "password")
		if err != nil {
			return fmt.Errorf("require: %s: %w", claim, err)
		}
		a.require[claim] = t
		checksName = checksName || t.Uses("username")
	}
	if o.UsernameClaim == noClaim && (!checksName || o.From == "username") {
		return errors.New("username_claim is none, so nobody vouches for the user name; add a claim that has it to require, such as sub: ${username}")
	}
	if !a.fetches() {
		return nil
	}
	if _, err := o.CheckURL(o.JWKS); err != nil {
		return fmt.Errorf("jwks: %w", err)
	}
	var err error
	a.client, err = o.NewHTTPClient(2)
	return err
}

// fetches says that the set has an address.
func (a *Auth) fetches() bool { return strings.Contains(a.opts.JWKS, "://") }

// Name is "auth.jwt".
func (a *Auth) Name() string { return Name }

// Method implements plugin.EnhancedAuthenticator.
func (a *Auth) Method() string { return a.opts.Method }

// Start reads the files, fetches the set and goes on looking at both. That a set cannot be fetched is a warning: it is tried again, and
// until it comes its tokens are refused.
func (a *Auth) Start(ctx context.Context, h plugin.Host) error {
	a.now, a.log = h.Now, h.Logger()
	a.running, a.stop = context.WithCancel(context.Background())
	a.keys.a = a
	if err := a.keys.readFiles(); err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	if a.fetches() {
		if err := a.keys.fetch(ctx); err != nil {
			a.log.Warn("the key set cannot be fetched; tokens by its keys are refused until it can", "url", a.opts.JWKS, "err", err)
		}
	}
	a.done.Go(a.follow)
	return nil
}

// Stop ends looking and fetching.
func (a *Auth) Stop(context.Context) error {
	if a.stop != nil {
		a.stop()
		a.done.Wait()
	}
	if a.client != nil {
		a.client.CloseIdleConnections()
	}
	return nil
}

// Reload reads the files and fetches the set now. After an error the keys of before stay.
func (a *Auth) Reload(ctx context.Context) error {
	err := a.keys.readFiles()
	if a.fetches() {
		err = errors.Join(err, a.keys.fetch(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	return nil
}

// look is how often files are looked at.
const look = 5 * time.Second

// follow is the goroutine of a started Auth.
func (a *Auth) follow() {
	files, set := time.NewTicker(look), time.NewTicker(a.opts.JWKSRefresh)
	defer files.Stop()
	defer set.Stop()
	for {
		select {
		case <-a.running.Done():
			return
		case <-files.C:
			a.keys.lookAtFiles()
		case <-set.C:
			if a.fetches() {
				a.keys.fetchOrComplain(a.running)
			}
		}
	}
}

// Authenticate judges the token of a login.
func (a *Auth) Authenticate(ctx context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	token := string(l.Password)
	if a.opts.From == "username" {
		token = l.Client.Username
	}
	if !looksLikeToken(token) {
		if a.opts.Others == "deny" {
			return deny("no token")
		}
		return plugin.Decision{}, plugin.Identity{}, nil
	}
	return a.judge(ctx, token, l)
}

// Begin implements plugin.EnhancedAuthenticator.
func (a *Auth) Begin(_ context.Context, c *plugin.Client) (plugin.Exchange, error) {
	return &exchange{a, c}, nil
}

// exchange takes the token as the first and only data of the client.
type exchange struct {
	a      *Auth
	client *plugin.Client
}

// Next implements plugin.Exchange.
func (x *exchange) Next(ctx context.Context, data []byte) ([]byte, bool, plugin.Decision, plugin.Identity, error) {
	d, id, err := x.a.judge(ctx, string(data), &plugin.Login{Client: x.client})
	return nil, true, d, id, err
}

func deny(rule string) (plugin.Decision, plugin.Identity, error) {
	return plugin.Decision{Verdict: plugin.Deny, Rule: Name + ": " + rule}, plugin.Identity{}, nil
}
