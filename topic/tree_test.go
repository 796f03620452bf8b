// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"maps"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"
)

// The tree against a map that is searched through.
func TestTreeAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree, want := NewTree[int](), map[string]int{}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				name, v := genName(t), rapid.Int().Draw(t, "v")
				old, had := tree.Set(name, v)
				if was, ok := want[name]; old != was || had != ok {
					t.Fatalf("Set(%q) = %v, %v", name, old, had)
				}
				want[name] = v
			},
			"delete": func(t *rapid.T) {
				name := genName(t)
				old, had := tree.Delete(name)
				if was, ok := want[name]; old != was || had != ok {
					t.Fatalf("Delete(%q) = %v, %v", name, old, had)
				}
				delete(want, name)
			},
			"get": func(t *rapid.T) {
				name := genName(t)
				v, ok := tree.Get(name)
				if was, had := want[name]; v != was || ok != had {
					t.Fatalf("Get(%q) = %v, %v", name, v, ok)
				}
			},
			"match": func(t *rapid.T) {
				filter := genFilter(t)
				checkTreeMatch(t, tree, want, filter)
				max := rapid.IntRange(1, 3).Draw(t, "max")
				checkTreePages(t, tree, want, filter, max)
				checkTreeScan(t, tree, want, filter, max)
			},
			"": func(t *rapid.T) {
				if tree.Len() != len(want) {
					t.Fatalf("Len() = %d, want %d", tree.Len(), len(want))
				}
			},
		})
	})
}

type fataler interface{ Fatalf(string, ...any) }

// matching returns the names of m that match, in the tree's order.
func matching[V any](m map[string]V, filter string) []string {
	names := []string{}
	for name := range m {
		if Match(filter, name) {
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool { return compare(names[i], names[j]) < 0 })
	return names
}

func checkTreeMatch(t fataler, tree *Tree[int], m map[string]int, filter string) {
	got := []string{}
	tree.Match(filter, func(name string, v int) bool {
		if m[name] != v {
			t.Fatalf("Match(%q) gives %q = %d, want %d", filter, name, v, m[name])
		}
		got = append(got, name)
		return true
	})
	if want := matching(m, filter); !slices.Equal(got, want) {
		t.Fatalf("Match(%q) = %q, want %q", filter, got, want)
	}
}

func checkTreePages(t fataler, tree *Tree[int], m map[string]int, filter string, max int) {
	got, after := []string{}, ""
	for more := true; more; {
		var page []Entry[int]
		page, more = tree.MatchPage(filter, after, max, nil)
		if len(page) > max || more && len(page) < max {
			t.Fatalf("MatchPage(%q, %q, %d) = %v, %v", filter, after, max, page, more)
		}
		for _, e := range page {
			got, after = append(got, e.Name), e.Name
		}
	}
	if want := matching(m, filter); !slices.Equal(got, want) {
		t.Fatalf("pages of %q: %q, want %q", filter, got, want)
	}
}

func checkTreeScan(t fataler, tree *Tree[int], m map[string]int, filter string, max int) {
	var got []Entry[int]
	after := ""
	for steps, more := 0, true; more; steps++ {
		if steps > len(m)+1 {
			t.Fatalf("Scan(%q) makes no progress", filter)
		}
		got, after, more = tree.Scan(filter, after, max, 1, got)
	}
	names := []string{}
	for _, e := range got {
		names = append(names, e.Name)
	}
	if want := matching(m, filter); !slices.Equal(names, want) {
		t.Fatalf("scan of %q: %q, want %q", filter, names, want)
	}
}

// Many pages, that split and join again; in random and in sorted order.
func TestTreeWithManyPages(t *testing.T) {
	names := map[string]int{}
	for i := range 20000 {
		names[benchName(i)] = i
	}
	for _, order := range []string{"random", "sorted"} {
		tree := NewTree[int]()
		keys := slices.Collect(maps.Keys(names))
		if order == "sorted" {
			sort.Slice(keys, func(i, j int) bool { return compare(keys[i], keys[j]) < 0 })
		}
		for _, name := range keys {
			tree.Set(name, names[name])
		}
		if least := 20000 / pageMost; order == "sorted" && len(tree.pages) > least+1 {
			t.Errorf("%d pages for names in order, want %d", len(tree.pages), least)
		}
		for _, filter := range []string{"#", "site7/#", "+/+/temp", "site1/dev2/+", "+/dev77/hum", "none/#", "+/none"} {
			checkTreeMatch(t, tree, names, filter)
			checkTreePages(t, tree, names, filter, 100)
		}
		left := maps.Clone(names)
		for i, name := range keys {
			if i%10 != 0 {
				tree.Delete(name)
				delete(left, name)
			}
		}
		checkTreeMatch(t, tree, left, "#")
		if most := 2 * 2000 / pageLeast; len(tree.pages) > most {
			t.Errorf("%d pages for 2000 names, want at most %d", len(tree.pages), most)
		}
		for name := range left {
			tree.Delete(name)
		}
		if tree.Len() != 0 || tree.pages != nil {
			t.Errorf("%d names, %d pages left", tree.Len(), len(tree.pages))
		}
	}
}

// A name that stays is given exactly once though others come and go in between.
func TestTreePagesWhileItChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree, stay := NewTree[int](), map[string]bool{}
		for _, name := range rapid.SliceOfDistinct(rapid.Custom(genName), rapid.ID).Draw(t, "stay") {
			tree.Set(name, 1)
			stay[name] = true
		}
		filter, got := genFilter(t), map[string]int{}
		after := ""
		for more := true; more; {
			var page []Entry[int]
			page, more = tree.MatchPage(filter, after, 2, nil)
			for _, e := range page {
				got[e.Name]++
				after = e.Name
			}
			for range 3 {
				if name := genName(t); !stay[name] {
					if _, had := tree.Delete(name); !had {
						tree.Set(name, 2)
					}
				}
			}
		}
		for name := range stay {
			want := 0
			if Match(filter, name) {
				want = 1
			}
			if got[name] != want {
				t.Fatalf("%q came %d times in the pages of %q", name, got[name], filter)
			}
		}
	})
}

// A filter that matches little looks at little.
func TestTreeNarrowFilter(t *testing.T) {
	tree := NewTree[int]()
	for i := range 100_000 {
		tree.Set(benchName(i), i)
	}
	for filter, most := range map[string]int{
		"site3/dev403/temp": 1,
		"site3/dev403/+":    20,
		"site3/dev403/#":    20,
		"+/dev403/temp":     300, // 100 sites, up to three looks at each
		"none/#":            2,
	} {
		_, _, more := tree.Scan(filter, "", 1000, most, nil)
		if more {
			t.Errorf("%q looks at more than %d names of 100000", filter, most)
		}
	}
}
