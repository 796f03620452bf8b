// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
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
	sort.Slice(names, func(i, j int) bool { return compare([]byte(names[i]), []byte(names[j])) < 0 })
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
			sort.Slice(keys, func(i, j int) bool { return compare([]byte(keys[i]), []byte(keys[j])) < 0 })
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
		if tree.Len() != 0 || len(tree.pages) != 0 {
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

// Long names, with much in common and with nothing.
func TestTreeLongNames(t *testing.T) {
	tree, want := NewTree[int](), map[string]int{}
	for i := range 100 {
		for _, name := range []string{
			strings.Repeat("level/", 10000) + fmt.Sprint(i),        // of 10001 levels
			fmt.Sprint(i, "/") + strings.Repeat("x", MaxLength-10), // of which two do not fit into one page
			strings.Repeat("/", i+1),
			fmt.Sprint(i),
		} {
			tree.Set(name, i)
			want[name] = i
		}
	}
	for _, filter := range []string{"#", "level/#", "level/+/#", "+/+", strings.Repeat("+/", 10000) + "7", "/+/+/#"} {
		checkTreeMatch(t, tree, want, filter)
		checkTreePages(t, tree, want, filter, 7)
	}
	for name := range want {
		if v, had := tree.Delete(name); !had || v != want[name] {
			t.Fatalf("Delete(%.20q) = %d, %v", name, v, had)
		}
		if delete(want, name); len(want)%50 == 0 {
			checkTreeMatch(t, tree, want, "#")
		}
	}
	if len(tree.pages) != 0 {
		t.Errorf("%d pages left", len(tree.pages))
	}
}

// A long name costs steps by its length, so that a scan is bounded in time.
func TestTreeScanCountsBytes(t *testing.T) {
	tree := NewTree[int]()
	for i := range 100 {
		tree.Set(fmt.Sprint(i, "/")+strings.Repeat("x", 10*stepBytes), i)
	}
	if page, _, more := tree.Scan("#", "", 100, 100, nil); len(page) > 11 || !more {
		t.Errorf("100 steps lead over %d names of %d bytes", len(page), 10*stepBytes)
	}
}

// Names that come and go leave no memory behind: with as many names as before a
// tree is as large as before.
func TestTreeGivesMemoryBack(t *testing.T) {
	const n = 20_000
	tree := NewTree[[3]int64]()
	before := heap()
	for i := range n {
		tree.Set(sensorName(i), [3]int64{})
	}
	first := heap() - before
	for i := range 10 * n {
		tree.Delete(sensorName(i))
		tree.Set(sensorName(i+n), [3]int64{})
	}
	if now := heap() - before; now > first*5/4 {
		t.Errorf("%d bytes for %d names became %d", first, n, now)
	}
	for i := range n {
		if i%16 != 0 {
			tree.Delete(sensorName(i + 10*n))
		}
	}
	if now := heap() - before; now > first/8 {
		t.Errorf("%d bytes for %d names became %d for %d", first, n, now, tree.Len())
	}
	runtime.KeepAlive(tree)
}

// A name of a plant's many sensors costs little, in whatever order they come.
func TestTreeIsSmall(t *testing.T) {
	const n, most = 100_000, 24 + 30 // value and name
	before := heap()
	tree := NewTree[[3]int64]()
	for _, i := range rand.Perm(n) {
		tree.Set(sensorName(i), [3]int64{})
	}
	if each := (heap() - before) / n; each > most {
		t.Errorf("%d bytes for a name and its value, want at most %d", each, most)
	}
	runtime.KeepAlive(tree)
}

func TestTreeGetDoesNotAllocate(t *testing.T) {
	tree, name := NewTree[int](), sensorName(1)
	tree.Set(name, 1)
	if n := testing.AllocsPerRun(100, func() { tree.Get(name); tree.Set(name, 2) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTreeFirst(t *testing.T) {
	tree := NewTree[int]()
	if name, _, ok := tree.First(); ok {
		t.Errorf("an empty tree begins with %q", name)
	}
	for i, name := range []string{"b", "a/b", "a!", "a"} {
		tree.Set(name, i)
	}
	for _, want := range []string{"a", "a/b", "a!", "b"} {
		name, v, ok := tree.First()
		if old, _ := tree.Delete(name); name != want || v != old || !ok {
			t.Errorf("First() = %q, %d, %v, want %q, %d", name, v, ok, want, old)
		}
	}
}

// FuzzTree takes names and filters from one string: what follows a capital letter
// is set (S), deleted (D) or looked for (F).
func FuzzTree(f *testing.F) {
	f.Add("Sa/bSa/cSaD a/bFa/#F+/cF#")
	f.Add("S$a/bS/S//S/aF+/+F$a/+F/+")
	f.Fuzz(func(t *testing.T, program string) {
		tree, want := NewTree[int](), map[string]int{}
		for len(program) > 1 {
			op := program[0]
			arg := program[1:]
			if i := strings.IndexAny(arg, "SDF"); i >= 0 {
				arg = arg[:i]
			}
			program = program[1+len(arg):]
			if _, err := ParseFilter(arg, 0); err != nil || strings.Contains(arg, "\x00") {
				continue
			}
			switch {
			case op == 'F':
				checkTreeMatch(t, tree, want, arg)
				checkTreePages(t, tree, want, arg, 2)
			case !ValidName(arg):
			case op == 'D':
				old, had := tree.Delete(arg)
				if was, ok := want[arg]; old != was || had != ok {
					t.Fatalf("Delete(%q) = %v, %v", arg, old, had)
				}
				delete(want, arg)
			default:
				old, had := tree.Set(arg, len(program))
				if was, ok := want[arg]; old != was || had != ok {
					t.Fatalf("Set(%q) = %v, %v", arg, old, had)
				}
				want[arg] = len(program)
			}
		}
		checkTreeMatch(t, tree, want, "#")
	})
}

// Readers change nothing: the race detector would see it.
func TestTreeReadersBesideEachOther(t *testing.T) {
	tree := NewTree[int]()
	for i := range 1000 {
		tree.Set(benchName(i), i)
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := range 1000 {
				if v, ok := tree.Get(benchName(i)); v != i || !ok {
					t.Errorf("Get(%q) = %d, %v", benchName(i), v, ok)
				}
			}
			if page, more := tree.MatchPage("+/+/temp", "", 1000, nil); len(page) != 100 || more {
				t.Errorf("%d names, %v", len(page), more)
			}
			if name, _, _ := tree.First(); !strings.HasPrefix(name, "site0/dev0/") {
				t.Errorf("the first is %q", name)
			}
		})
	}
	readers.Wait()
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
