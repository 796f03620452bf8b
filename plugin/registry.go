// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"sync"
)

// Factory makes a plug-in from its part of the configuration. decode fills a struct with it, strictly; its errors
// name file and line and are returned as they are.
type Factory func(decode func(into any) error) (Plugin, error)

var registry = struct {
	sync.Mutex
	factories map[string]Factory
}{factories: map[string]Factory{}}

// Register makes a plug-in known by its path, from an init function. Registering a name twice panics.
func Register(name string, f Factory) {
	registry.Lock()
	defer registry.Unlock()
	if _, ok := registry.factories[name]; ok {
		panic("plugin: registered twice: " + name)
	}
	registry.factories[name] = f
}

// Lookup finds a registered factory.
func Lookup(name string) (Factory, error) {
	registry.Lock()
	defer registry.Unlock()
	f, ok := registry.factories[name]
	if !ok {
		return nil, fmt.Errorf("plugin: no plug-in is called %q", name)
	}
	return f, nil
}

// Names lists what is registered, sorted.
func Names() []string {
	registry.Lock()
	defer registry.Unlock()
	names := make([]string, 0, len(registry.factories))
	for n := range registry.factories {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
