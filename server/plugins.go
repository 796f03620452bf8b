// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/server/config"
)

// buildPlugins makes the plug-ins of a configuration, in its order; certificate names come first. All mistakes are gathered.
func buildPlugins(c *config.Config) ([]plugin.Plugin, error) {
	var all []plugin.Plugin
	var found config.Mistakes
	if names := newCertificateNames(c); names != nil {
		all = append(all, names)
	}
	seen := map[string]bool{}
	for i := range c.Plugins {
		p := &c.Plugins[i]
		made, err := buildPlugin(p)
		switch {
		case err != nil:
			found = append(found, mistakesOf(p, err)...)
		case seen[made.Name()]:
			found = append(found, p.Mistake(p.Name+" is listed twice", "remove one"))
		default:
			seen[made.Name()] = true
			all = append(all, made)
		}
	}
	if len(found) > 0 {
		return nil, found
	}
	if f, err := plugin.Lookup(grantRules); err == nil && !seen[grantRules] {
		made, err := f(func(any) error { return nil })
		if err != nil {
			return nil, err
		}
		all = append(all, made)
	}
	return all, nil
}

// grantRules is the plug-in that obeys rules of logins. It has no options, and without such rules no effect, so that nobody has to name it.
const grantRules = "acl.identity"

func buildPlugin(p *config.Plugin) (plugin.Plugin, error) {
	factory, err := plugin.Lookup(p.Name)
	if err != nil {
		names := plugin.Names()
		fix := "there is: " + strings.Join(names, ", ")
		if near := config.Nearest(p.Name, names); near != "" {
			fix = "did you mean " + near + "?"
		}
		return nil, config.Mistakes{p.Mistake(fmt.Sprintf("no plug-in is called %q", p.Name), fix)}
	}
	return factory(p.Decode)
}

// mistakesOf gives errors of a factory a place.
func mistakesOf(p *config.Plugin, err error) config.Mistakes {
	if ms, ok := err.(config.Mistakes); ok {
		return ms
	}
	return config.Mistakes{p.Mistake(err.Error(), "")}
}

// authenticates says whether any plug-in judges logins.
func authenticates(all []plugin.Plugin) bool {
	for _, p := range all {
		if _, ok := p.(*certificateNames); ok {
			continue // judges only where a listener says so
		}
		if _, ok := p.(plugin.Authenticator); ok {
			return true
		}
		if _, ok := p.(plugin.EnhancedAuthenticator); ok {
			return true
		}
	}
	return false
}

// Check finds what is wrong with a configuration beyond what Load finds: plug-ins, their options, and listeners that
// strangers can reach. Nothing is started.
func Check(c *config.Config) error {
	all, err := buildPlugins(c)
	if err != nil {
		return err
	}
	if found := c.Safety(authenticates(all)); len(found) > 0 {
		return found
	}
	certs, err := loadCertificates(c, slog.New(slog.DiscardHandler))
	certs.close()
	return err
}
