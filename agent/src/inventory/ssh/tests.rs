use super::*;

const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1002 1 0 100 0 0 10 0
   2: 0200000A:0016 0900000A:C350 01 00000000:00000000 02:0009C2A4 00000000     0        0 1003 2 0 20 4 0 10 -1
   3: 0200000A:1F90 0800000A:C351 01 00000000:00000000 02:0009C2A4 00000000     0        0 1004 2 0 20 4 0 10 -1
   4: 0100007F:0016 0100007F:C352 01 00000000:00000000 02:0009C2A4 00000000     0        0 1005 2 0 20 4 0 10 -1
   5: 0200000A:0016 0700000A:C353 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
";

const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: 00000000000000000000000000000000:08AE 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 2001 1 0
   1: 0000000000000000FFFF00000200000A:08AE 0000000000000000FFFF00000B00000A:C350 01 0:0 00:0 0 0 0 2002 1 0
   2: 000000FD000000000000000002000000:08AE 000000FD000000000000000009000000:C350 01 0:0 00:0 0 0 0 2003 1 0
";

/// A host whose process `pid` is called `name` and holds these sockets.
fn host(processes: &[(u32, &str, &[u64])]) -> (tempfile::TempDir, HostRoot) {
    let dir = tempfile::tempdir().unwrap();
    let proc = dir.path().join("proc");
    fs::create_dir_all(proc.join("net")).unwrap();
    fs::write(proc.join("net/tcp"), TCP).unwrap();
    fs::write(proc.join("net/tcp6"), TCP6).unwrap();
    for (pid, name, inodes) in processes {
        let fds = proc.join(pid.to_string()).join("fd");
        fs::create_dir_all(&fds).unwrap();
        fs::write(fds.with_file_name("comm"), format!("{name}\n")).unwrap();
        for inode in *inodes {
            std::os::unix::fs::symlink(format!("socket:[{inode}]"), fds.join(inode.to_string())).unwrap();
        }
    }
    let root = HostRoot::at(dir.path());
    (dir, root)
}

fn peer(address: &str, port: u16) -> (IpAddr, u16) {
    (address.parse().unwrap(), port)
}

#[test]
fn ports_of_daemons_and_their_peers_are_found() {
    let (_dir, root) = host(&[(300, "sshd", &[1001, 2001]), (400, "nginx", &[1002])]);
    let ports = listening_ports(&root);
    assert_eq!(ports, BTreeSet::from([22, 2222]));
    let peers = established_peers(&root, &ports);
    let wanted = [
        peer("10.0.0.9", 22),
        peer("10.0.0.11", 2222),
        peer("fd00::9", 2222),
    ];
    assert_eq!(peers, BTreeSet::from(wanted));
}

#[test]
fn a_port_that_pid_1_holds_counts_if_the_ssh_socket_unit_names_it() {
    let (dir, root) = host(&[(1, "systemd", &[1001, 1002])]);
    assert_eq!(listening_ports(&root), BTreeSet::new());
    let drop_ins = dir.path().join("run/systemd/generator/ssh.socket.d");
    fs::create_dir_all(&drop_ins).unwrap();
    fs::write(
        drop_ins.join("addresses.conf"),
        "[Socket]\nListenStream=\nListenStream=0.0.0.0:22\n",
    )
    .unwrap();
    assert_eq!(listening_ports(&root), BTreeSet::from([22]));
}

#[test]
fn listen_streams_are_ports_with_or_without_addresses() {
    let unit = "ListenStream=\nListenStream=22\nListenStream=[::]:2222\nListenStream=/run/ssh.sock\n#ListenStream=9\n";
    assert_eq!(listen_streams(unit).collect::<Vec<_>>(), [22, 2222]);
}

#[test]
fn headings_and_nonsense_are_passed_over() {
    assert_eq!(parse_socket("  sl  local_address rem_address   st"), None);
    assert_eq!(parse_socket("0: 00:0016 00:0000 0A a b c d e 1"), None);
    assert_eq!(parse_socket(""), None);
}
