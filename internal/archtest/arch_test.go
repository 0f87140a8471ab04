// Package archtest holds the layers of this repository: who may import whom.
// It reads the files itself, because a test that asked `go list` would be
// answered from the test cache and miss the change.
//
// A new package begins with a line in the table below.
package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The layers. A package imports from layers before its own, never sideways but
// where its line says so.
type layer int

const (
	vocabulary layer = iota // what everything speaks of; standard library only
	decision                // pure: no I/O, no clock
	shared                  // what several services need; interfaces to stores
	service                 // one per function; not AWS, not adapters, not each other
	adapter                 // one thing outside each
	wiring                  // puts the others together
	support                 // for tests; imported by _test.go files only
	example                 // for users to copy; nothing of ours
)

// below lists the layers that a layer may import.
var below = map[layer][]layer{
	vocabulary: {},
	decision:   {vocabulary},
	shared:     {vocabulary, decision},
	service:    {vocabulary, decision, shared},
	adapter:    {vocabulary, decision},
	wiring:     {vocabulary, decision, shared, service, adapter},
	support:    {vocabulary},
	example:    {},
}

type rule struct {
	layer layer
	// beside are packages of the own layer, or wiring that belongs together.
	beside []string
	// outside are modules, or for the first two layers packages of the
	// standard library that only compute there.
	outside []string
}

const (
	aws    = "github.com/aws/aws-sdk-go-v2"
	lambda = "github.com/aws/aws-lambda-go"
	bbolt  = "go.etcd.io/bbolt"
	cmp    = "github.com/google/go-cmp"
	yaml   = "go.yaml.in/yaml/v3"
	cobra  = "github.com/spf13/cobra"
	smithy = "github.com/aws/smithy-go"
)

// packages is the table: every package of the module, by its folder.
var packages = map[string]rule{
	"internal/hook": {layer: vocabulary},

	"internal/catalog":    {layer: decision},
	"internal/eventid":    {layer: decision, outside: []string{"crypto/rand"}}, // the default of its random source
	"internal/filter":     {layer: decision, beside: []string{"internal/strictjson"}},
	"internal/match":      {layer: decision, beside: []string{"internal/filter", "internal/strictjson"}},
	"internal/message":    {layer: decision, beside: []string{"internal/strictjson"}},
	"internal/record":     {layer: decision},
	"internal/render":     {layer: decision, beside: []string{"internal/strictjson"}},
	"internal/retry":      {layer: decision, outside: []string{"net/http", "math/rand/v2"}}, // http.ParseTime; the default of jitter
	"internal/seal":       {layer: decision},
	"internal/schema":     {layer: decision, beside: []string{"internal/filter", "internal/strictjson"}, outside: []string{"net", "net/http"}}, // SplitHostPort; methods
	"internal/sign":       {layer: decision, outside: []string{"net/http"}},                                                                    // http.Header
	"internal/strictjson": {layer: decision, outside: []string{"github.com/go-json-experiment/json"}},

	"internal/auth": {layer: shared},
	"internal/feed": {layer: shared},

	"internal/admin":       {layer: service},
	"internal/deliver":     {layer: service},
	"internal/healthprobe": {layer: service},
	"internal/ingest":      {layer: service},

	"internal/action":      {layer: adapter, beside: []string{"internal/egress", "internal/lua"}},
	"internal/awscall":     {layer: adapter, outside: []string{aws}},
	"internal/boltqueue":   {layer: adapter, beside: []string{"internal/groupcommit"}, outside: []string{bbolt}},
	"internal/boltstore":   {layer: adapter, beside: []string{"internal/groupcommit"}, outside: []string{bbolt}},
	"internal/groupcommit": {layer: adapter, outside: []string{bbolt}},
	"internal/dynamostore": {layer: adapter, outside: []string{aws, smithy}},
	"internal/egress":      {layer: adapter, outside: []string{"code.dny.dev/ssrf"}},
	"internal/env":         {layer: adapter, outside: []string{aws}},
	"internal/keyring":     {layer: adapter, beside: []string{"internal/awscall"}, outside: []string{aws}},
	"internal/lambdaevent": {layer: adapter, outside: []string{lambda}},
	"internal/lua":         {layer: adapter, beside: []string{"internal/lua/sandbox"}, outside: []string{"github.com/yuin/gopher-lua"}},
	"internal/lua/sandbox": {layer: adapter, outside: []string{"github.com/yuin/gopher-lua", "github.com/go-json-experiment/json"}},
	"internal/selfinvoke":  {layer: adapter, beside: []string{"internal/awscall", "internal/lambdaevent"}, outside: []string{aws}},
	"internal/sqsqueue":    {layer: adapter, outside: []string{aws, smithy}},
	"internal/telemetry":   {layer: adapter},

	"":                      {layer: wiring}, // template.yaml
	"internal/stack":        {layer: wiring, beside: []string{""}, outside: []string{aws, smithy, yaml}},
	"internal/local":        {layer: wiring, beside: []string{"internal/stack"}, outside: []string{lambda, bbolt, aws, smithy}},
	"internal/kongimport":   {layer: wiring, beside: []string{"internal/local"}}, // its tests run against the whole
	"cmd/eventhooks":        {layer: wiring, beside: []string{"internal/kongimport", "internal/local", "internal/stack"}, outside: []string{cobra, aws, smithy}},
	"functions/admin":       {layer: wiring, outside: []string{lambda, aws}},
	"functions/deliver":     {layer: wiring, outside: []string{lambda, aws}},
	"functions/healthprobe": {layer: wiring, outside: []string{lambda, aws}},
	"functions/ingest":      {layer: wiring, outside: []string{lambda, aws}},
	"e2e":                   {layer: wiring, beside: []string{"internal/local", "internal/stack"}, outside: []string{cmp, aws, lambda, bbolt}},

	"internal/archtest":   {layer: support},
	"internal/awstest":    {layer: support, outside: []string{aws}},
	"internal/goldentest": {layer: support},
	"internal/lambdatest": {layer: support},
	"internal/queuetest":  {layer: support, outside: []string{cmp}},
	"internal/storetest":  {layer: support, outside: []string{cmp}},

	"examples/admin-domain": {layer: example},
}

const (
	module = "eventhooks"
	root   = "../.."
)

// pkg is one package as it was parsed.
type pkg struct {
	dir   string
	code  []*ast.File // not tests
	tests []*ast.File
	files map[*ast.File]string
}

var fset = token.NewFileSet()

// load parses every Go file of the module.
func load(t *testing.T) map[string]*pkg {
	t.Helper()
	all := map[string]*pkg{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			name := d.Name()
			// tools is a module of its own; build holds what was made.
			if rel != "." && (name == "testdata" || strings.HasPrefix(name, ".") || rel == "tools" || rel == "build") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(rel)
		if dir == "." {
			dir = ""
		}
		if all[dir] == nil {
			all[dir] = &pkg{dir: dir, files: map[*ast.File]string{}}
		}
		all[dir].files[f] = rel
		if strings.HasSuffix(p, "_test.go") {
			all[dir].tests = append(all[dir].tests, f)
		} else {
			all[dir].code = append(all[dir].code, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// imports returns the import paths of a file.
func imports(f *ast.File) []string {
	var out []string
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		out = append(out, p)
	}
	return out
}

// ours returns the folder of a package of this module.
func ours(importPath string) (dir string, ok bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// within reports whether the path is one of the modules or packages, or in one.
func within(importPath string, list []string) bool {
	return slices.ContainsFunc(list, func(m string) bool {
		return importPath == m || strings.HasPrefix(importPath, m+"/")
	})
}

func TestLayers(t *testing.T) {
	all := load(t)
	for _, dir := range slices.Sorted(maps.Keys(all)) {
		if _, ok := packages[dir]; !ok {
			t.Errorf("package %q has no line in archtest's table: which layer is it?", dir)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		p := all[dir]
		if p == nil {
			t.Errorf("archtest's table has a line for %q, which there is not", dir)
			continue
		}
		rule := packages[dir]
		for _, f := range p.code {
			for _, i := range imports(f) {
				if why := rule.forbids(i); why != "" {
					t.Errorf("%s imports %s: %s", p.files[f], i, why)
				}
			}
		}
		for _, f := range p.tests {
			for _, i := range imports(f) {
				if why := rule.forbidsInTest(dir, i); why != "" {
					t.Errorf("%s imports %s: %s", p.files[f], i, why)
				}
			}
		}
	}
}

// io are packages of the standard library that reach outside the process or
// into chance; the first two layers compute without them.
var io = []string{
	"crypto/rand", "log", "math/rand", "math/rand/v2", "net/http", "os", "syscall", "net/smtp", "net/rpc", "plugin", "embed", "testing",
}

// forbids says why code of the package may not import the path; "" if it may.
func (r rule) forbids(i string) string {
	dir, own := ours(i)
	switch {
	case own && slices.Contains(r.beside, dir):
		return ""
	case own && !slices.Contains(below[r.layer], packages[dir].layer):
		return "that is not in a layer below"
	case own:
		return ""
	case within(i, r.outside):
		return ""
	case !standard(i):
		return "a module that its line does not name"
	case r.layer <= decision && (within(i, io) || i == "net"):
		return "a package without I/O, clock or chance does not need it"
	}
	return ""
}

// forbidsInTest says the same of the package's tests: they may use what is
// below, adapters in place of mocks and test support, but not the wiring.
func (r rule) forbidsInTest(self, i string) string {
	dir, own := ours(i)
	if own && dir != self && packages[dir].layer == wiring && r.layer != wiring {
		return "a test of one package does not need the whole system"
	}
	return ""
}

func TestDecisions_haveNoClock(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	for dir, p := range load(t) {
		if r, ok := packages[dir]; !ok || r.layer > decision {
			continue
		}
		for _, f := range p.code {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if s, ok := call.Fun.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, s.Sel.Name) {
						t.Errorf("%s: time.%s is called; time comes in from outside", fset.Position(n.Pos()), s.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// linked returns the packages of this module that a package links.
func linked(all map[string]*pkg, dir string) []string {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(d string) {
		if seen[d] || all[d] == nil {
			return
		}
		seen[d] = true
		for _, f := range all[d].code {
			for _, i := range imports(f) {
				if next, ok := ours(i); ok {
					visit(next)
				}
			}
		}
	}
	visit(dir)
	return slices.Sorted(maps.Keys(seen))
}

func TestFunctions_linkNothingLarge(t *testing.T) {
	// Each of these costs a function megabytes, milliseconds of every start,
	// or both.
	banned := []string{
		"text/template", "html/template", "net/rpc", "testing", "go/ast", "go/parser",
		bbolt, cobra, yaml, aws + "/config", cmp, "pgregory.net/rapid", "github.com/getkin/kin-openapi",
	}
	all := load(t)
	functions := 0
	for dir := range packages {
		if !strings.HasPrefix(dir, "functions/") {
			continue
		}
		functions++
		for _, d := range linked(all, dir) {
			if l := packages[d].layer; l == support || (l == wiring && d != dir) {
				t.Errorf("%s links %q, which is for the tests or for the local mode", dir, d)
			}
			for _, f := range all[d].code {
				for _, i := range imports(f) {
					if within(i, banned) {
						t.Errorf("%s links %s, which imports %s", dir, all[d].files[f], i)
					}
				}
				for _, decl := range f.Decls {
					compiled(decl, func(n ast.Node) {
						t.Errorf("%s: a regexp is compiled at every start of %s", fset.Position(n.Pos()), dir)
					})
				}
			}
		}
	}
	if functions != 4 {
		t.Errorf("there are %d functions in the table; want 4", functions)
	}
}

// compiled calls found for a package-level variable that compiles a regexp
// when the program starts.
func compiled(decl ast.Decl, found func(ast.Node)) {
	g, ok := decl.(*ast.GenDecl)
	if !ok || g.Tok != token.VAR {
		return
	}
	ast.Inspect(g, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // runs later
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "regexp" {
					found(n)
				}
			}
		}
		return true
	})
}

func TestMains_fitOnOneScreen(t *testing.T) {
	const screen = 50
	mains, err := filepath.Glob(root + "/functions/*/main.go")
	if err != nil || len(mains) != 4 {
		t.Fatalf("mains = %q, %v; want four", mains, err)
	}
	for _, name := range mains {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(src, []byte("\n")); lines > screen {
			t.Errorf("%s has %d lines; want at most %d: what does not fit is a decision, and belongs in internal/", name, lines, screen)
		}
		f, err := parser.ParseFile(fset, name, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ForStmt, *ast.RangeStmt:
				t.Errorf("%s: a main has no loops", fset.Position(n.Pos()))
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: a main has no init", fset.Position(n.Pos()))
				}
			}
			return true
		})
		others, err := filepath.Glob(filepath.Dir(name) + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range others {
			if o != name && !strings.HasSuffix(o, "_test.go") {
				t.Errorf("%s: a function is its main.go, everything else is in internal/", o)
			}
		}
	}
}

func TestPackages_sayWhatTheyAre(t *testing.T) {
	names := []string{"util", "utils", "common", "types", "models", "manager", "impl", "helpers"}
	for dir, p := range load(t) {
		if slices.Contains(names, path.Base(dir)) {
			t.Errorf("package %s is named after no thing", dir)
		}
		files := p.code
		if len(files) == 0 {
			files = p.tests
		}
		if !slices.ContainsFunc(files, func(f *ast.File) bool {
			return f.Doc != nil && (strings.HasPrefix(f.Doc.Text(), "Package ") || strings.HasPrefix(f.Doc.Text(), "Command "))
		}) {
			t.Errorf("package %q has no package comment", dir)
		}
	}
}

func TestRule_forbids(t *testing.T) {
	tests := []struct {
		name, from, imports string
		allowed             bool
	}{
		{"a service imports the vocabulary", "internal/deliver", "eventhooks/internal/hook", true},
		{"a service imports what services share", "internal/deliver", "eventhooks/internal/feed", true},
		{"a service does not import another", "internal/deliver", "eventhooks/internal/ingest", false},
		{"a service does not import an adapter", "internal/deliver", "eventhooks/internal/dynamostore", false},
		{"a service does not import AWS", "internal/deliver", aws + "/service/sqs", false},
		{"a decision does not read files", "internal/render", "os", false},
		{"a decision does not dial", "internal/sign", "net", false},
		{"a decision may know of addresses", "internal/match", "net/netip", true},
		{"an adapter imports its own SDK only", "internal/boltstore", aws + "/aws", false},
		{"nobody imports test support", "functions/deliver", "eventhooks/internal/storetest", false},
		{"the vocabulary imports nothing of ours", "internal/hook", "eventhooks/internal/retry", false},
		{"only cmd and e2e import the local mode", "functions/admin", "eventhooks/internal/local", false},
		{"cmd imports the local mode", "cmd/eventhooks", "eventhooks/internal/local", true},
		{"an example stands alone", "examples/admin-domain", "eventhooks/internal/sign", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if why := packages[tt.from].forbids(tt.imports); (why == "") != tt.allowed {
				t.Errorf("%s imports %s: %q; want allowed = %v", tt.from, tt.imports, why, tt.allowed)
			}
		})
	}
}
