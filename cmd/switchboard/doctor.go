package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"switchboard"
	"switchboard/bus"
	"switchboard/config"
	"switchboard/db"
)

type doctorCmd struct{}

// Run checks what a process would use, one line each.
func (doctorCmd) Run(ctx context.Context, cfg *config.Config) error {
	failed := 0
	report := func(what string, err error, ok string) {
		if err != nil {
			failed++
			fmt.Printf("FAIL  %-14s %v\n", what, err)
			return
		}
		fmt.Printf("ok    %-14s %s\n", what, ok)
	}
	report("configuration", nil, "complete and valid")
	log := logger(cfg)
	c, err := openCore(ctx, cfg, log, "doctor", true)
	if err != nil {
		report("database", db.RedactURL(err), "")
		return errors.New("1 check failed; the others need the database")
	}
	defer c.close()
	report("database", c.db.Ping(ctx), "reachable, on this version's schema")
	if cfg.ReplicaURL != "" {
		replica, err := checkReplica(ctx, cfg, c)
		report("replica", err, replica)
	}
	if len(cfg.ZooKeeperServers) == 0 {
		report("bus", nil, "in-process: one process only")
	} else {
		report("zookeeper", checkZooKeeper(ctx, cfg, c), fmt.Sprint("connected to ", cfg.ZooKeeperServers))
	}
	where := "disk under " + cfg.DataDir
	if cfg.S3Endpoint != "" {
		where = "bucket " + cfg.S3Bucket + " at " + cfg.S3Endpoint
	}
	report("files", c.files.Check(ctx), where)
	accounts, err := c.admin.ListAccounts(ctx)
	if err != nil {
		report("accounts", err, "")
	}
	for _, a := range accounts {
		if a.State == switchboard.AccountPaused {
			report(a.Platform, fmt.Errorf("%s (%s) is paused: %s", a.Name, a.ID, a.Reason), "")
			continue
		}
		checkCtx, cancel := context.WithTimeout(ctx, 15*time.Second)
		health, err := c.admin.CheckAccount(checkCtx, actor, a.ID)
		cancel()
		if err != nil {
			err = fmt.Errorf("%s (%s): %w", a.Name, a.ID, err)
		}
		ok := fmt.Sprintf("%s (%s) works as %s", a.Name, a.ID, health.Name)
		if health.Warning != "" {
			ok += "; warning: " + health.Warning
		}
		report(a.Platform, err, ok)
	}
	if failed > 0 {
		return fmt.Errorf("%d of the checks failed", failed)
	}
	return nil
}

func checkReplica(ctx context.Context, cfg *config.Config, c *core) (string, error) {
	reader, err := db.OpenReader(ctx, c.db, db.ReaderConfig{PrimaryURL: c.url, ReplicaURL: cfg.ReplicaURL}, c.log)
	if err != nil {
		return "", err
	}
	defer reader.Close()
	replica := reader.Replica()
	if !replica.Up {
		return "", fmt.Errorf("not used, reads go to the primary: it does not answer, or is too far behind (%s, as last seen)", replica.Lag)
	}
	return fmt.Sprintf("used for reads, %s behind", replica.Lag), nil
}

func checkZooKeeper(ctx context.Context, cfg *config.Config, c *core) error {
	zk, err := bus.NewZooKeeper(bus.ZooKeeperConfig{Servers: cfg.ZooKeeperServers, Logger: c.log}, bus.Node{ID: "doctor-" + db.NewID(), Started: time.Now().UTC(), Version: version})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- zk.Run(ctx) }()
	deadline := time.After(8 * time.Second)
	for {
		if err = zk.Ready(); err == nil {
			break
		}
		select {
		case <-deadline:
			stop()
			<-done
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
	stop()
	<-done
	return nil
}
