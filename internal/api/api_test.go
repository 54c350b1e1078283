package api

import (
	"bytes"
	"flag"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write exported.txt anew")

// packages are the public ones, from here.
var packages = []string{"../../retry", "../../breaker", "../../openai", "../../openai/openaitest", "../../breaker/fleet"}

func TestTheListOfWhatIsExportedIsUpToDate(t *testing.T) {
	t.Parallel()
	var list []string
	for _, dir := range packages {
		list = append(list, exported(t, dir)...)
	}
	got := strings.Join(list, "\n") + "\n"
	if *update {
		if err := os.WriteFile("exported.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("exported.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	known := strings.Split(string(want), "\n")
	for _, line := range list {
		if i := slices.Index(known, line); i >= 0 {
			known = slices.Delete(known, i, i+1)
			continue
		}
		t.Errorf("new: %s", line)
	}
	for _, line := range known {
		if line != "" {
			t.Errorf("gone: %s", line)
		}
	}
	t.Error("if that is meant: go test ./internal/api -update, and a line in the changelog")
}

// exported returns a line for each name that the package exports: constants,
// variables, functions, types, and their fields and methods.
func exported(t *testing.T, dir string) (list []string) {
	t.Helper()
	fset := token.NewFileSet()
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, source, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	p, err := doc.NewFromFiles(fset, files, filepath.ToSlash(dir))
	if err != nil {
		t.Fatal(err)
	}
	add := func(node any) {
		var b bytes.Buffer
		if err := printer.Fprint(&b, fset, node); err != nil {
			t.Fatal(err)
		}
		list = append(list, p.Name+": "+strings.Join(strings.Fields(b.String()), " "))
	}
	values := func(all []*doc.Value) {
		for _, v := range all {
			for _, name := range v.Names {
				if token.IsExported(name) {
					list = append(list, p.Name+": "+v.Decl.Tok.String()+" "+name)
				}
			}
		}
	}
	functions := func(all []*doc.Func) {
		for _, f := range all {
			f.Decl.Body = nil
			add(f.Decl)
		}
	}
	values(p.Consts)
	values(p.Vars)
	functions(p.Funcs)
	for _, typ := range p.Types {
		list = append(list, p.Name+": type "+typ.Name)
		values(typ.Consts)
		values(typ.Vars)
		functions(typ.Funcs)
		functions(typ.Methods)
		for _, field := range fields(typ.Decl) {
			list = append(list, p.Name+": field "+typ.Name+"."+field)
		}
	}
	return list
}

// fields returns the exported fields of a struct, or the methods of an interface.
func fields(decl *ast.GenDecl) (names []string) {
	for _, spec := range decl.Specs {
		var list *ast.FieldList
		switch typ := spec.(*ast.TypeSpec).Type.(type) {
		case *ast.StructType:
			list = typ.Fields
		case *ast.InterfaceType:
			list = typ.Methods
		default:
			continue
		}
		for _, field := range list.List {
			for _, name := range field.Names {
				if name.IsExported() {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// A public package that the list leaves out would change unnoticed.
func TestAllPublicPackagesAreListed(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != "../.." && (name == "internal" || name == "examples" || name == "testdata" || strings.HasPrefix(name, ".")) {
			return fs.SkipDir
		}
		if dir := filepath.ToSlash(filepath.Dir(path)); strings.HasSuffix(name, ".go") && !slices.Contains(packages, dir) {
			t.Errorf("%s is not listed", dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
