// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package ldap

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/remote"
)

// maxFound is the most groups that one search brings.
const maxFound = remote.MaxGroups + 1

// connect opens a connection that ends with ctx, encrypted where the options say so.
func (a *Auth) connect(ctx context.Context) (*ldap.Conn, func(), error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.address)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := a.opts.Config(a.host)
	if err == nil && a.secure {
		secured := tls.Client(conn, cfg)
		if err = secured.HandshakeContext(ctx); err == nil {
			conn = secured
		}
	}
	if err != nil {
		conn.Close() // err matters more
		return nil, nil, err
	}
	raw := conn
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	c := ldap.NewConn(conn, a.secure)
	c.Start()
	if deadline, ok := ctx.Deadline(); ok {
		c.SetTimeout(max(time.Millisecond, time.Until(deadline)))
	}
	done := func() {
		stop()
		c.Close() // nothing is lost
	}
	if a.opts.StartTLS {
		if err := c.StartTLS(cfg); err != nil {
			done()
			return nil, nil, err
		}
	}
	return c, done, nil
}

// ask judges a password: who is a name to bind as, or the filter that finds it.
func (a *Auth) ask(ctx context.Context, who, password string) (remote.Answer, error) {
	c, done, err := a.connect(ctx)
	if err != nil {
		return remote.Answer{}, err
	}
	defer done()
	if a.userDN != nil {
		return a.askDirectly(c, who, password)
	}
	if err := a.bindAsSelf(c); err != nil {
		return remote.Answer{}, err
	}
	entry, several, err := a.find(c, who)
	if err != nil {
		return remote.Answer{}, err
	}
	if entry == nil {
		return a.unknown(c, password, several)
	}
	id, err := a.identity(c, entry)
	if err != nil {
		return remote.Answer{}, err
	}
	return a.verdict(c.Bind(entry.DN, password), id)
}

// askDirectly binds first; what is known of the user is read with the user's own rights.
func (a *Auth) askDirectly(c *ldap.Conn, dn, password string) (remote.Answer, error) {
	answer, err := a.verdict(c.Bind(dn, password), plugin.Identity{})
	if err != nil || answer.Verdict != plugin.Allow || len(a.attrs) == 1 && a.opts.GroupBase == "" {
		return answer, err
	}
	r, err := c.Search(a.request(dn, ldap.ScopeBaseObject, "(objectClass=*)", 1, a.attrs))
	if err != nil {
		return remote.Answer{}, fmt.Errorf("read the user's entry: %w", err)
	}
	if len(r.Entries) != 1 {
		return remote.Answer{}, errors.New("the user's entry cannot be read")
	}
	answer.Identity, err = a.identity(c, r.Entries[0])
	return answer, err
}

func (a *Auth) bindAsSelf(c *ldap.Conn) error {
	if a.opts.BindDN == "" {
		return nil
	}
	if err := c.Bind(a.opts.BindDN, a.opts.BindPassword); err != nil {
		return fmt.Errorf("bind_dn: %w", err)
	}
	return nil
}

// find gives the one entry that matches; several is that there is more than one, which are nobody's.
func (a *Auth) find(c *ldap.Conn, filter string) (e *ldap.Entry, several bool, err error) {
	r, err := c.Search(a.request(a.opts.Base, ldap.ScopeWholeSubtree, filter, 2, a.attrs))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, true, nil
	case err != nil:
		return nil, false, fmt.Errorf("search: %w", err)
	case len(r.Entries) == 1:
		return r.Entries[0], false, nil
	}
	return nil, len(r.Entries) > 1, nil
}

func (a *Auth) request(base string, scope int, filter string, most int, attrs []string) *ldap.SearchRequest {
	seconds := max(1, int(a.opts.Timeout/time.Second))
	return ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, most, seconds, false, filter, attrs, nil)
}

// unknown answers for nobody, after a bind that fails as one with a wrong password does.
func (a *Auth) unknown(c *ldap.Conn, password string, several bool) (remote.Answer, error) {
	if several {
		return remote.Deny(Name + ": several entries match"), nil
	}
	if a.opts.Unknown == "ignore" {
		return remote.Answer{}, nil
	}
	err := c.Bind("cn="+rand.Text()+","+a.opts.Base, password)
	if err != nil && !refusal(err) {
		return remote.Answer{}, err
	}
	return remote.Deny(Name + ": unknown user"), nil
}

// verdict makes an answer of what a bind came to.
func (a *Auth) verdict(err error, id plugin.Identity) (remote.Answer, error) {
	switch {
	case err == nil:
		return remote.Answer{Decision: plugin.Decision{Verdict: plugin.Allow, Rule: Name}, Identity: id}, nil
	case refusal(err):
		return remote.Deny(Name + ": the bind was refused"), nil
	}
	return remote.Answer{}, err
}

// refusal says that a directory has answered no, and is well.
func refusal(err error) bool {
	for _, code := range []uint16{ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax,
		ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultUnwillingToPerform,
		ldap.LDAPResultConstraintViolation, ldap.LDAPResultNamingViolation} {
		if ldap.IsErrorWithCode(err, code) {
			return true
		}
	}
	return false
}

// identity reads groups and claims of an entry.
func (a *Auth) identity(c *ldap.Conn, e *ldap.Entry) (id plugin.Identity, err error) {
	if a.opts.GroupAttribute != "" {
		for _, v := range e.GetEqualFoldAttributeValues(a.opts.GroupAttribute) {
			id.Groups = append(id.Groups, firstOf(v))
		}
	}
	if a.opts.GroupBase != "" {
		filter := strings.ReplaceAll(a.opts.GroupFilter, dnName, ldap.EscapeFilter(e.DN))
		r, err := c.Search(a.request(a.opts.GroupBase, ldap.ScopeWholeSubtree, filter, maxFound, []string{a.opts.GroupName}))
		if err != nil {
			return id, fmt.Errorf("search for groups: %w", err)
		}
		for _, g := range r.Entries {
			id.Groups = append(id.Groups, g.GetEqualFoldAttributeValues(a.opts.GroupName)...)
		}
	}
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	for _, name := range a.opts.Claims {
		v := e.GetEqualFoldAttributeValue(name)
		if v == "" {
			continue
		}
		if id.Grant == nil {
			id.Grant = &plugin.Grant{Claims: map[string]string{}}
		}
		id.Grant.Claims[name] = v
	}
	if s := a.opts.SuperuserGroup; s != "" && slices.Contains(id.Groups, s) {
		remote.Superuser(&id)
	}
	return id, remote.CheckIdentity(&id)
}

// firstOf is the first value of a distinguished name, or the text where it is none: cn=ops,ou=groups is ops.
func firstOf(s string) string {
	dn, err := ldap.ParseDN(s)
	if err != nil || len(dn.RDNs) == 0 || len(dn.RDNs[0].Attributes) == 0 {
		return s
	}
	return dn.RDNs[0].Attributes[0].Value
}
