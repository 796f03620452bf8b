// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package sql is the plug-in "acl.sql": rules are rows of PostgreSQL, MySQL or MariaDB.
//
// When a client connects one query finds its rules: rows with a column rule, lines in the language of acl.file (docs/acl.md), or with the
// columns permission, action and topic. They decide from then on; what is remembered, for how long, and what holds while the database is
// away: package source. Values are arguments of the query and never part of its text. A database that is away at the
// start is a warning; a query that it does not understand stops the start.
//
// Any goroutine may ask. The pool of connections belongs to database/sql from Start to Stop.
package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/database"
	"github.com/noctule/noctule/plugins/internal/remote"
	"github.com/noctule/noctule/plugins/internal/rules"
	"github.com/noctule/noctule/plugins/internal/source"
)

// Name is the path of the plug-in.
const Name = "acl.sql"

// Options of the plug-in. They are obeyed at restart; a reload has rules asked for anew.
type Options struct {
	// Driver is "postgres" or "mysql", which is for MariaDB too.
	Driver string `yaml:"driver"`
	// DSN says how to connect: postgres://user:password@host/db?sslmode=verify-full, or user:password@tcp(host:3306)/db?tls=true.
	DSN string `yaml:"dsn"`
	// Query finds the rules of a client, by ${username} and other names, which stand for arguments; in the order in which they are to decide.
	Query string `yaml:"query"`

	source.Options    `yaml:",inline"`
	remote.TLSOptions `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Query: "SELECT permission, action, topic FROM mqtt_acl WHERE username = ${username}", Options: source.Defaults()}
}

// ACL is the plug-in. Before Start it denies everything.
type ACL struct {
	*source.Source
	engine   database.Engine
	parallel int
	query    string
	names    []string // of the arguments
	log      *slog.Logger
	db       *sql.DB
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

// New makes the plug-in. Nothing is connected before Start.
func New(o Options) (*ACL, error) {
	if err := o.Options.Check(Name); err != nil {
		return nil, err
	}
	a := &ACL{parallel: o.Parallel}
	if err := a.check(&o); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	a.Source = source.New(Name, o.Options, false, a.question)
	return a, nil
}

func (a *ACL) check(o *Options) error {
	if o.DSN == "" {
		return errors.New("dsn is empty; write how to connect, such as ${file:/run/secrets/dsn}")
	}
	t, err := remote.Parse(o.Query, "password")
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if t.Constant() {
		return errors.New("query: no ${username} or other name stands in it, so everybody would have the same rights; for these use acl.file")
	}
	if a.engine, err = database.New(&database.Options{Driver: o.Driver, DSN: o.DSN, TLSOptions: o.TLSOptions}); err != nil {
		return err
	}
	a.query, a.names = t.Split(a.engine.Place)
	return database.PlaceholdersStandFree(t)
}

// Start makes the pool and tries the query.
func (a *ACL) Start(ctx context.Context, h plugin.Host) error {
	a.log = h.Logger()
	a.db = sql.OpenDB(a.engine.Connector)
	a.db.SetMaxOpenConns(a.parallel)
	a.db.SetMaxIdleConns(a.parallel)
	a.db.SetConnMaxIdleTime(5 * time.Minute)
	a.db.SetConnMaxLifetime(30 * time.Minute)
	tried, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := a.db.PrepareContext(tried, a.query)
	switch {
	case err == nil:
		s.Close() // it was a try
	case a.engine.IsMistake(err):
		a.db.Close() // nothing is under way
		return fmt.Errorf("%s: query: %w", Name, err)
	default:
		a.log.Warn("the database does not answer; clients are refused until it does", "err", err)
	}
	return a.Source.Start(ctx, h)
}

// Stop ends what is asked, and closes the pool.
func (a *ACL) Stop(ctx context.Context) error {
	if a.db == nil {
		return nil
	}
	return errors.Join(a.Source.Stop(ctx), a.db.Close())
}

func (a *ACL) question(x *plugin.Access) (source.Question, error) {
	c := *x.Client
	if c.Anonymous { // a name that nobody vouches for is none
		c.Username = ""
	}
	l := &plugin.Login{Client: &c}
	args := make([]any, len(a.names))
	var key strings.Builder
	for i, n := range a.names {
		v := remote.Value(l, n)
		args[i] = v
		fmt.Fprintf(&key, "%d:%s", len(v), v)
	}
	return source.Question{Key: key.String(), Load: func(ctx context.Context) (source.Answer, error) {
		list, err := a.load(ctx, args)
		if err != nil && a.engine.IsValue(err) { // of the client's making: nothing is wrong with the database
			a.log.Debug("a value does not fit the query", "err", err)
			list, err = nil, nil
		}
		return source.Answer{Rules: list}, err
	}}, nil
}

// load gives the rules of a client.
func (a *ACL) load(ctx context.Context, args []any) ([]string, error) {
	rows, err := a.db.QueryContext(ctx, a.query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var list []string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		if len(list) >= rules.MaxOwn {
			return nil, fmt.Errorf("there are more than %d rules for one client", rules.MaxOwn)
		}
		line, err := ruleOf(columns, values)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", len(list)+1, err)
		}
		list = append(list, line)
	}
	return list, rows.Err()
}

// known are the columns that have a meaning. qos and retain are conditions, as in qos=0,1 and retain=no.
var known = []string{"rule", "permission", "action", "topic", "qos", "retain"}

// ruleOf makes a line of a row.
func ruleOf(columns []string, values []sql.NullString) (string, error) {
	row := map[string]string{}
	for i, c := range columns {
		if c = strings.ToLower(c); !slices.Contains(known, c) {
			return "", fmt.Errorf("the column %q has no meaning; there are %s", c, strings.Join(known, ", "))
		}
		if values[i].Valid {
			row[c] = values[i].String
		}
	}
	if slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, "rule") }) {
		if len(columns) > 1 {
			return "", errors.New("beside the column rule there is no other")
		}
		return row["rule"], nil
	}
	return rules.Line(row["permission"], row["action"], row["qos"], row["retain"], row["topic"])
}
