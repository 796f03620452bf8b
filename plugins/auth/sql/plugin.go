// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package sql is the plug-in "auth.sql": users are rows of PostgreSQL, MySQL or MariaDB.
//
// One prepared query with named placeholders finds the row of a login; values are arguments of the query and never part of its text. The
// password's hash is verified here. A database that is away at the start is a warning, as it may come; a query that it does
// not understand stops the start.
//
// Auth may be called from any goroutine. The pool of connections belongs to database/sql from Start to Stop.
package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/database"
	"github.com/noctule/noctule/plugins/internal/remote"
	"github.com/noctule/noctule/plugins/internal/table"
)

// Name is the path of the plug-in.
const Name = "auth.sql"

// Options of the plug-in. They are obeyed at restart; a reload forgets remembered answers.
type Options struct {
	// Driver is "postgres" or "mysql", which is for MariaDB too.
	Driver string `yaml:"driver"`
	// DSN says how to connect: postgres://user:password@host/db?sslmode=verify-full, or user:password@tcp(host:3306)/db?tls=true.
	DSN string `yaml:"dsn"`
	// Query finds the row of a login, by ${username} and other names, which stand for arguments. Columns: password_hash, groups, superuser,
	// rules and username have a meaning, others are claims.
	Query string `yaml:"query"`
	// Require refuses clients that give no user name. Default false: they are for the next.
	Require bool `yaml:"require"`

	table.Options     `yaml:",inline"`
	Remote            remote.Options `yaml:",inline"`
	remote.TLSOptions `yaml:",inline"`
}

// Defaults are the options that hold where nothing is given.
func Defaults() Options {
	return Options{Query: "SELECT password_hash FROM mqtt_user WHERE username = ${username}", Remote: remote.Defaults()}
}

// Auth is the plug-in. Before Start it refuses everybody.
type Auth struct {
	opts   Options
	engine database.Engine
	query  string
	names  []string // of the arguments
	log    *slog.Logger
	step   *remote.Step
	judge  *table.Judge

	mu   sync.Mutex // guards stmt
	db   *sql.DB
	stmt *sql.Stmt // nil until it could be prepared
}

var (
	_ plugin.Authenticator = (*Auth)(nil)
	_ plugin.Starter       = (*Auth)(nil)
	_ plugin.Stopper       = (*Auth)(nil)
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

// New makes the plug-in. Nothing is connected before Start.
func New(o Options) (*Auth, error) {
	a := &Auth{opts: o}
	if err := o.Remote.Check(Name); err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	a.judge = table.NewJudge(Name, o.Options)
	return a, nil
}

func (a *Auth) check() error {
	o := &a.opts
	if err := o.Options.Check(); err != nil {
		return err
	}
	if o.DSN == "" {
		return errors.New("dsn is empty; write how to connect, such as ${file:/run/secrets/dsn}")
	}
	t, err := remote.Parse(o.Query, "password")
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if t.Constant() {
		return errors.New("query: no ${username} or other name stands in it, so everybody would be the same user")
	}
	if a.engine, err = database.New(&database.Options{Driver: o.Driver, DSN: o.DSN, TLSOptions: o.TLSOptions}); err != nil {
		return err
	}
	a.query, a.names = t.Split(a.engine.Place)
	return database.PlaceholdersStandFree(t)
}

// Name is "auth.sql".
func (a *Auth) Name() string { return Name }

// Start makes the pool and tries the query.
func (a *Auth) Start(ctx context.Context, h plugin.Host) error {
	a.log = h.Logger()
	a.step = remote.NewStep(Name, a.opts.Remote, h.Now, a.log)
	a.db = sql.OpenDB(a.engine.Connector)
	a.db.SetMaxOpenConns(a.opts.Remote.Parallel)
	a.db.SetMaxIdleConns(a.opts.Remote.Parallel)
	a.db.SetConnMaxIdleTime(5 * time.Minute)
	a.db.SetConnMaxLifetime(30 * time.Minute)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := a.statement(ctx)
	switch {
	case err != nil && a.engine.IsMistake(err):
		a.db.Close() // nothing is under way
		return fmt.Errorf("%s: query: %w", Name, err)
	case err != nil:
		a.log.Warn("the database does not answer; logins are refused until it does", "err", err)
	}
	return nil
}

// Stop closes the pool.
func (a *Auth) Stop(context.Context) error {
	if a.db == nil {
		return nil
	}
	return a.db.Close()
}

// Reload forgets remembered answers.
func (a *Auth) Reload(context.Context) error {
	a.step.Forget()
	return nil
}

// statement is the prepared query; database/sql prepares it anew on each connection.
func (a *Auth) statement(ctx context.Context) (*sql.Stmt, error) {
	a.mu.Lock()
	s := a.stmt
	a.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := a.db.PrepareContext(ctx, a.query)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stmt != nil { // by another one meanwhile
		s.Close() // unused
		return a.stmt, nil
	}
	a.stmt = s
	return s, nil
}

// Authenticate asks the database, or remembers.
func (a *Auth) Authenticate(ctx context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	switch {
	case a.step == nil:
		return plugin.Decision{}, plugin.Identity{}, errors.New(Name + ": not started")
	case !l.HasUser && !a.opts.Require:
		return plugin.Decision{}, plugin.Identity{}, nil
	case !l.HasUser || !l.HasPass:
		d := remote.Deny(Name + ": no user name or no password given")
		return d.Decision, d.Identity, nil
	}
	key := [][]byte{l.Password}
	args := make([]any, len(a.names))
	for i, n := range a.names {
		v := remote.Value(l, n)
		args[i] = v
		key = append(key, []byte(v))
	}
	return a.step.Ask(ctx, key, func(ctx context.Context) (remote.Answer, error) {
		row, err := a.find(ctx, args)
		if err != nil && a.engine.IsValue(err) { // of the client's making: nothing is wrong with the database
			a.log.Debug("a value does not fit the query", "err", err)
			row, err = nil, nil
		}
		if err != nil {
			return remote.Answer{}, err
		}
		return a.judge.Judge(ctx, l, row)
	})
}

// find gives the row of a login, nil if there is none.
func (a *Auth) find(ctx context.Context, args []any) (table.Row, error) {
	s, err := a.statement(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var found table.Row
	for rows.Next() {
		if found != nil {
			return nil, errors.New("the query found several rows for one login; it must find one")
		}
		if found, err = scan(rows, columns); err != nil {
			return nil, err
		}
	}
	return found, rows.Err()
}

func scan(rows *sql.Rows, columns []string) (table.Row, error) {
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	row := table.Row{}
	for i, v := range values {
		if v.Valid {
			row[columns[i]] = v.String
		}
	}
	return row, nil
}
