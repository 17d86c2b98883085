package archtest

import (
	"cmp"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"switchboard/config"
)

// environment is .env as deploy/env.sh makes it.
func environment(t *testing.T) types.Mapping {
	t.Helper()
	file := filepath.Join(t.TempDir(), "env")
	if out, err := exec.Command(filepath.Join(root(), "deploy", "env.sh"), file).CombinedOutput(); err != nil {
		t.Fatalf("deploy/env.sh: %v\n%s", err, out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf(".env is %v: others may read the secrets", info.Mode())
	}
	if err := exec.Command(filepath.Join(root(), "deploy", "env.sh"), file).Run(); err == nil {
		t.Error("deploy/env.sh overwrites an existing .env, and with it the only master key")
	}
	env, err := dotenv.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func compose(env types.Mapping, files ...string) (*types.Project, error) {
	details := types.ConfigDetails{WorkingDir: root(), Environment: maps.Clone(env)} // the loader adds to it
	for _, f := range files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: filepath.Join(root(), f)})
	}
	return loader.LoadWithContext(context.Background(), details, func(o *loader.Options) {
		o.SetProjectName("switchboard", true)
		o.Profiles = []string{"*"}
	})
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := compose(environment(t), "docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serving are the services that play a role, with the roles they play.
func serving(t *testing.T, p *types.Project) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for name, s := range p.Services {
		if len(s.Command) == 0 || s.Command[0] != "serve" {
			continue
		}
		list := config.Roles
		if i := slices.Index(s.Command, "--roles"); i >= 0 && i+1 < len(s.Command) {
			list = strings.Split(s.Command[i+1], ",")
		}
		if _, err := config.ParseRoles(list); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found[name] = list
	}
	return found
}

func TestComposeNeedsItsSecrets(t *testing.T) {
	t.Parallel()
	whole := environment(t)
	if _, err := compose(whole, "docker-compose.yml"); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "SWITCHBOARD_MASTER_KEY"} {
		if len(whole[secret]) < 20 {
			t.Errorf("deploy/env.sh makes a %s of %d characters", secret, len(whole[secret]))
		}
		env := maps.Clone(whole)
		env[secret] = ""
		if _, err := compose(env, "docker-compose.yml"); err == nil || !strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "deploy/env.sh") {
			t.Errorf("without %s: error %v; it should name the variable and deploy/env.sh", secret, err)
		}
	}
	// What is not asked for is not read: a variable of .env.example that the set
	// doesn't use is a misspelt one.
	text := read(t, "docker-compose.yml") + read(t, "deploy/compose.https.yml")
	for name := range whole {
		if !strings.Contains(text, "${"+name+":") {
			t.Errorf(".env.example has %s, which docker-compose.yml does not use", name)
		}
	}
}

func TestComposeHasEveryRole(t *testing.T) {
	t.Parallel()
	count := map[string]int{}
	for _, list := range serving(t, project(t)) {
		for _, r := range list {
			count[r]++
		}
	}
	// The roles whose loss would be felt at once run twice.
	for _, want := range []struct {
		role  string
		least int
	}{{"edge", 2}, {"workers", 2}, {"chathub", 2}, {"loader", 1}, {"filestore", 1}} {
		if count[want.role] < want.least {
			t.Errorf("%d processes play %s; want at least %d", count[want.role], want.role, want.least)
		}
		delete(count, want.role)
	}
	if len(count) > 0 {
		t.Errorf("roles without a least number here: %v", count)
	}
}

// TestComposeHasOneDoor: the proxy publishes, on loopback, and nobody else does.
func TestComposeHasOneDoor(t *testing.T) {
	t.Parallel()
	p := project(t)
	for name, s := range p.Services {
		if name != "proxy" && len(s.Ports) > 0 {
			t.Errorf("%s publishes %v", name, s.Ports)
		}
		if s.NetworkMode != "" || s.Privileged {
			t.Errorf("%s leaves its networks (%q) or its container (privileged %v)", name, s.NetworkMode, s.Privileged)
		}
		for _, cap := range s.CapAdd {
			if name != "proxy" || cap != "NET_BIND_SERVICE" {
				t.Errorf("%s is given capability %s", name, cap)
			}
		}
	}
	ports := p.Services["proxy"].Ports
	if len(ports) != 1 || ports[0].HostIP != "127.0.0.1" || ports[0].Published != "8080" {
		t.Errorf("the proxy publishes %v; want 127.0.0.1:8080 alone", ports)
	}
	if !p.Networks["inside"].Internal {
		t.Error("the inner network has a way out")
	}
	services := serving(t, p)
	for name, s := range p.Services {
		stores := !slices.Contains([]string{"proxy", "admin"}, name) && services[name] == nil
		if _, out := s.Networks["outside"]; out && stores {
			t.Errorf("%s stores or coordinates and is on the outer network", name)
		}
		if _, in := s.Networks["inside"]; !in {
			t.Errorf("%s is not on the inner network", name)
		}
	}
}

// TestComposeSettings: what the services are given are settings that the binary
// knows and accepts, equal where they must be.
func TestComposeSettings(t *testing.T) {
	t.Parallel()
	p := project(t)
	known := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		known[f.Tag.Get("env")] = f
	}
	var first types.MappingWithEquals
	services := serving(t, p)
	for _, name := range append(slices.Sorted(maps.Keys(services)), "migrate", "admin") {
		s := p.Services[name]
		var cfg config.Config
		for key, value := range s.Environment {
			f, ok := known[key]
			if !ok || value == nil {
				t.Errorf("%s: %s is no setting, or has no value", name, key)
				continue
			}
			v := reflect.ValueOf(&cfg).Elem().FieldByIndex(f.Index)
			if v.Kind() != reflect.Slice {
				v.SetString(*value)
			} else if *value != "" {
				v.Set(reflect.ValueOf(strings.Split(*value, ",")))
			}
		}
		for _, f := range known {
			if v := reflect.ValueOf(&cfg).Elem().FieldByIndex(f.Index); v.Kind() == reflect.String && v.String() == "" {
				v.SetString(f.Tag.Get("default"))
			}
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, addr := range []string{cfg.HTTPAddr, cfg.OpsAddr} {
			if !strings.HasPrefix(addr, "0.0.0.0:") {
				t.Errorf("%s listens on %s: nobody outside its container can reach that", name, addr)
			}
		}
		if len(cfg.ZooKeeperServers) != 3 || cfg.S3Endpoint == "" || cfg.DatabaseURL == "" || cfg.MasterKey == "" {
			t.Errorf("%s: several processes need ZooKeeper, S3, a database and a master key in common", name)
		}
		if first == nil {
			first = s.Environment
		}
		if !reflect.DeepEqual(first, s.Environment) {
			t.Errorf("%s has other settings than its peers", name)
		}
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.User != "" {
			t.Errorf("%s: a container of the service is read-only, has no capabilities, and runs as the image's user", name)
		}
	}
	// What the addresses name must be there.
	for _, host := range regexp.MustCompile(`(?:@|^|,)([a-z0-9-]+):\d+`).FindAllStringSubmatch(
		*first["SWITCHBOARD_DATABASE_URL"]+","+*first["SWITCHBOARD_ZOOKEEPER_SERVERS"]+","+*first["SWITCHBOARD_S3_ENDPOINT"], -1) {
		if _, ok := p.Services[host[1]]; !ok {
			t.Errorf("settings name %s, which is no service", host[1])
		}
	}
	if *p.Services["s3"].Environment["ROOT_ACCESS_KEY"] != *first["SWITCHBOARD_S3_ACCESS_KEY"] || *p.Services["s3"].Environment["ROOT_SECRET_KEY"] != *first["SWITCHBOARD_S3_SECRET_KEY"] {
		t.Error("the S3 server has other keys than its clients")
	}
}

// TestComposeOrder: start in order, the database before its migration, that and a
// quorum before anything that serves; and stops with enough time.
func TestComposeOrder(t *testing.T) {
	t.Parallel()
	p := project(t)
	if got := p.Services["migrate"].DependsOn["postgres"].Condition; got != types.ServiceConditionHealthy {
		t.Errorf("migrate waits for postgres to be %q", got)
	}
	for name := range serving(t, p) {
		s := p.Services[name]
		if got := s.DependsOn["migrate"].Condition; got != types.ServiceConditionCompletedSuccessfully {
			t.Errorf("%s waits for migrate to be %q; it refuses to start on an old schema", name, got)
		}
		for _, zk := range []string{"zk-1", "zk-2", "zk-3"} {
			if got := s.DependsOn[zk].Condition; got != types.ServiceConditionHealthy {
				t.Errorf("%s waits for %s to be %q", name, zk, got)
			}
		}
		// The longest: public listener 14 s, workers 27, accounts 5, bus 10, heartbeat 5, bus lock 2, ops listener 14.
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < 31*time.Second {
			t.Errorf("%s has %v to stop; it may take 30 s", name, s.StopGracePeriod)
		}
		if _, ok := p.Services["proxy"].DependsOn[name]; !ok {
			t.Errorf("the proxy does not wait for %s", name)
		}
		if health := strings.Join(p.Services["proxy"].HealthCheck.Test, " "); !strings.Contains(health, " "+name+" ") && !strings.Contains(health, " "+name+";") {
			t.Errorf("the proxy's health check does not ask %s", name)
		}
	}
	ids := map[string]bool{}
	for _, zk := range []string{"zk-1", "zk-2", "zk-3"} {
		s := p.Services[zk]
		id := *s.Environment["ZOO_MY_ID"]
		ids[id] = true
		if servers := *s.Environment["ZOO_SERVERS"]; !strings.Contains(servers, "server."+id+"="+zk+":2888:3888;2181") || strings.Count(servers, "server.") != 3 {
			t.Errorf("%s: ZOO_SERVERS=%s does not name it by its id %s", zk, servers, id)
		}
		if s.HealthCheck == nil || len(s.Volumes) != 2 {
			t.Errorf("%s needs a health check, and volumes for its data and its log", zk)
		}
	}
	if len(ids) != 3 {
		t.Errorf("the ensemble's ids are %v", ids)
	}
	for _, name := range []string{"postgres", "s3"} {
		if len(p.Services[name].Volumes) == 0 {
			t.Errorf("%s keeps its data in the container", name)
		}
	}
}

func TestComposeHasEnoughConnections(t *testing.T) {
	t.Parallel()
	p := project(t)
	need := 0
	for _, list := range serving(t, p) {
		need += 24 // db.Config.MaxConns
		if slices.Contains(list, "workers") {
			need += 16 // River's own pool
		}
	}
	got := 0
	for _, arg := range p.Services["postgres"].Command {
		if value, ok := strings.CutPrefix(arg, "max_connections="); ok {
			got, _ = strconv.Atoi(value)
		}
	}
	if got < 2*need {
		t.Errorf("max_connections=%d; %d connections, twice during an upgrade", got, need)
	}
}

func TestComposeWithADomain(t *testing.T) {
	t.Parallel()
	env := environment(t)
	if _, err := compose(env, "docker-compose.yml", "deploy/compose.https.yml"); err == nil || !strings.Contains(err.Error(), "SWITCHBOARD_SITE") {
		t.Errorf("without a domain: %v", err)
	}
	env["SWITCHBOARD_SITE"] = "chat.example.org"
	p, err := compose(env, "docker-compose.yml", "deploy/compose.https.yml")
	if err != nil {
		t.Fatal(err)
	}
	var published []string
	for _, port := range p.Services["proxy"].Ports {
		published = append(published, port.Published+"/"+cmp.Or(port.Protocol, "tcp"))
	}
	if want := []string{"80/tcp", "443/tcp", "443/udp"}; !slices.Equal(published, want) {
		t.Errorf("the proxy publishes %v; want %v", published, want)
	}
	if got := *p.Services["proxy"].Environment["SWITCHBOARD_SITE"]; got != "chat.example.org" {
		t.Errorf("the proxy's site is %q", got)
	}
}

// TestImage: what runs is a static binary of an ordinary user on an empty root.
func TestImage(t *testing.T) {
	t.Parallel()
	p := project(t)
	stages := map[string][]string{}
	stage := ""
	from := regexp.MustCompile(`^FROM (.+) AS (\S+)$`)
	for line := range strings.Lines(read(t, "Dockerfile")) {
		line = strings.TrimSpace(line)
		if m := from.FindStringSubmatch(line); m != nil {
			stage = m[2]
		}
		stages[stage] = append(stages[stage], line)
	}
	for name, s := range p.Services {
		if s.Build == nil {
			continue
		}
		lines := stages[s.Build.Target]
		if !slices.Contains(lines, "FROM scratch AS "+s.Build.Target) || !slices.Contains(lines, "USER 65532:65532") {
			t.Errorf("%s: stage %q of the Dockerfile is not from scratch with an ordinary user", name, s.Build.Target)
		}
	}
	text := read(t, "Dockerfile")
	for _, want := range []string{"CGO_ENABLED=0", "/etc/ssl/certs/ca-certificates.crt"} {
		if !strings.Contains(text, want) {
			t.Errorf("Dockerfile: no %s", want)
		}
	}
	// The images build with the versions that the project asks for.
	if version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod")); version == nil || !strings.Contains(text, "golang:"+version[1]+"-") {
		t.Errorf("the Dockerfile's Go is not that of go.mod, %v", version)
	}
}
