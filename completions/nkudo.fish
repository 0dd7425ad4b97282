# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nkudo_global_optspecs
    string join \n state-dir= h/help V/version
end

function __fish_nkudo_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nkudo_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nkudo_using_subcommand
    set -l cmd (__fish_nkudo_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nkudo -n "__fish_nkudo_needs_command" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_needs_command" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_needs_command" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "check" -d 'Say all mistakes of the configuration, and change nothing'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "render" -d 'Make a generation of the configuration; the host stays as it is'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "diff" -d 'Print what a switch to the configuration would do, and why; change nothing'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "switch" -d 'Make the host be a generation'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "rollback" -d 'Switch back to the generation before the current one, or to another older one'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "generations" -d 'List the generations: when and by whom they were rendered, why, and what each changed'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "gc" -d 'Remove old generations'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "status" -d 'Print the state of VMs'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "doctor" -d 'Say whether this host is fit for its VMs, and what mends it where it is not'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "start" -d 'Start a VM as the current generation has it, and let switches start it again'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "stop" -d 'Stop a VM, by its power button first, and let switches leave it stopped'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "pause" -d 'Stop the vCPUs of a VM where they are, until `nkudo resume`'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "resume" -d 'Let a VM that was paused go on'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "snapshot" -d 'Take a snapshot of a VM that runs: its memory, its devices and its disks at one moment'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "restore" -d 'Put a VM back to a snapshot: its memory, its devices and its disks'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "snapshots" -d 'List snapshots: when they were taken, and how large they are'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "logs" -d 'Print what the journal has of a VM: its guest\'s console, its VMM, systemd and nkudo'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "console" -d 'Attach this terminal to a guest\'s serial port'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "ssh" -d 'Open a shell in a VM, or run a command in it, by ssh(1)'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "collect" -d 'Put all that somebody needs to see of a host in trouble into one archive'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "api" -d 'Call a VM\'s hypervisor over its API, and print the answer'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "restart" -d 'Stop a VM, if it runs, and start it as the current generation has it'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "image" -d 'List, fetch and remove images'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "disk" -d 'List the disks that nkudo made'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "purge" -d 'Remove disks that are in no file any more, and snapshots, for good'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "recreate" -d 'Make disks of a VM anew, from what the file declares now'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "schema" -d 'Print the JSON Schema of nkudo.toml, for editors'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "shutdown" -d 'Stop all VMs in their order, if the host shuts down; nkudo-shutdown.service runs it'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "vsock" -d 'Hand ssh a connection to a guest\'s vsock; `nkudo ssh` has it run this'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "unit" -d 'A step of a VM\'s unit; systemd runs these'
complete -c nkudo -n "__fish_nkudo_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand check" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand check" -l strict -d 'Take warnings for mistakes'
complete -c nkudo -n "__fish_nkudo_using_subcommand check" -l elsewhere -d 'The configuration is for another host: say nothing of this one, and take a file that it names and that is not here (`user-data-file`) for one that is there'
complete -c nkudo -n "__fish_nkudo_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand check" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand render" -l explain -d 'Print what a VM (`vm.web`), a network (`network.lan`) or the host (`host`) comes to, each value with the line or the default that it is from; make no generation' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand render" -s m -l message -d 'Why; `nkudo generations` shows it' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand render" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand render" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand render" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand diff" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand diff" -l json -d 'Print JSON, in the shape that docs/switching.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand diff" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l only -d 'Only these VMs, and the networks that there are to be: `web,db`' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l restart-limit -d 'Restart at most so many VMs at the same time, one group after the other' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l start-limit -d 'Start, and stop, at most so many VMs at the same time. [default: 16]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l boot -d 'Switch to the generation that was current before the boot, whatever the configuration says now; without one, there is nothing to do. What stands in the way of one VM alone leaves that one out'
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l dry-run -d 'Print what would be done, and why; change nothing'
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l json -d 'Print that as JSON, in the shape that docs/switching.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l restart -d 'Restart the VMs for which changes are pending, too'
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -l fail-fast -d 'Begin nothing more once a VM has failed'
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand switch" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l only -d 'Only these VMs, and the networks that there are to be: `web,db`' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l restart-limit -d 'Restart at most so many VMs at the same time, one group after the other' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l start-limit -d 'Start, and stop, at most so many VMs at the same time. [default: 16]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l dry-run -d 'Print what would be done, and why; change nothing'
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l json -d 'Print that as JSON, in the shape that docs/switching.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l restart -d 'Restart the VMs for which changes are pending, too'
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -l fail-fast -d 'Begin nothing more once a VM has failed'
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand rollback" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand generations" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand generations" -l json -d 'Print JSON, in the shape that docs/generations.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand generations" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand generations" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand gc" -l keep -d 'How many of the newest generations to keep' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand gc" -l older-than -d 'Remove only what was rendered longer ago than this: `30d`, `12h`' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand gc" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand gc" -l dry-run -d 'Print what would be removed; remove nothing'
complete -c nkudo -n "__fish_nkudo_using_subcommand gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand gc" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand status" -s w -l watch -d 'Look again every so many seconds, until Ctrl-C; with --json, a line each time' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand status" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand status" -l network -d 'Networks instead of VMs: their links, ports, leases, forwards'
complete -c nkudo -n "__fish_nkudo_using_subcommand status" -l json -d 'Print JSON, in the shape that docs/status.md describes, for networks docs/networking.md'
complete -c nkudo -n "__fish_nkudo_using_subcommand status" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand status" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand doctor" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand doctor" -l json -d 'Print JSON, in the shape that docs/status.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand start" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand start" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand stop" -l force -d 'Do not wait longer than this for the guest; SIGTERM then, and SIGKILL after 5 s more' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand stop" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand stop" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand pause" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand pause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand pause" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand resume" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand resume" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand snapshot" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand snapshot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand snapshot" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand restore" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand restore" -l yes -d 'Do not ask'
complete -c nkudo -n "__fish_nkudo_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand restore" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand snapshots" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand snapshots" -l json -d 'Print JSON, in the shape that docs/snapshots.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand snapshots" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand snapshots" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -l since -d 'Only what is not older than this: `10min`, `yesterday`, `2026-01-31 12:00` (systemd.time(7))' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -s n -l lines -d 'Only the last so many lines' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -s f -l follow -d 'Print what is new, too, until Ctrl-C'
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -l console -d 'Only the guest\'s console, as it was printed'
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -l no-console -d 'All but the guest\'s console'
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand logs" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand console" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand console" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand console" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand ssh" -s l -l user -d 'The user in the VM. [default: ssh\'s own]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand ssh" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand ssh" -l vsock -d 'Over the VM\'s vsock, whatever addresses it has'
complete -c nkudo -n "__fish_nkudo_using_subcommand ssh" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand ssh" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand collect" -s o -l output -d 'The archive to write. [default: nkudo-HOST-TIME.tar.zst in the working directory]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand collect" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand collect" -l no-console -d 'Leave out what guests printed on their consoles'
complete -c nkudo -n "__fish_nkudo_using_subcommand collect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand collect" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand api" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand api" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand api" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand restart" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand restart" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand restart" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and not __fish_seen_subcommand_from list pull gc help" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and not __fish_seen_subcommand_from list pull gc help" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and not __fish_seen_subcommand_from list pull gc help" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and not __fish_seen_subcommand_from list pull gc help" -f -a "list" -d 'List images: how large they are, where they are kept, and who uses them'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and not __fish_seen_subcommand_from list pull gc help" -f -a "pull" -d 'Fetch the images that VMs of the configuration need, before a switch does'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and not __fish_seen_subcommand_from list pull gc help" -f -a "gc" -d 'Remove images that no kept generation, no disk and no running VM uses'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and not __fish_seen_subcommand_from list pull gc help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from list" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from list" -l json -d 'Print JSON, in the shape that docs/disks.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from pull" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from pull" -l all -d 'All images that are declared, whether a VM needs them or not'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from pull" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from gc" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from gc" -l dry-run -d 'Print what would be removed; remove nothing'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from gc" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "list" -d 'List images: how large they are, where they are kept, and who uses them'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "pull" -d 'Fetch the images that VMs of the configuration need, before a switch does'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "gc" -d 'Remove images that no kept generation, no disk and no running VM uses'
complete -c nkudo -n "__fish_nkudo_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and not __fish_seen_subcommand_from list help" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and not __fish_seen_subcommand_from list help" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and not __fish_seen_subcommand_from list help" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and not __fish_seen_subcommand_from list help" -f -a "list" -d 'List the disks that nkudo made: what from, how large they are, and whether a file declares them'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and not __fish_seen_subcommand_from list help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and __fish_seen_subcommand_from list" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and __fish_seen_subcommand_from list" -l json -d 'Print JSON, in the shape that docs/disks.md describes'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the disks that nkudo made: what from, how large they are, and whether a file declares them'
complete -c nkudo -n "__fish_nkudo_using_subcommand disk; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand purge" -l disk -d 'Only this disk, as `nkudo disk list` names it; can be given several times' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand purge" -l snapshot -d 'Only this snapshot; can be given several times' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand purge" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand purge" -l yes -d 'Do not ask'
complete -c nkudo -n "__fish_nkudo_using_subcommand purge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand purge" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand recreate" -l disk -d 'Only this disk, whether it differs or not; can be given several times' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand recreate" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand recreate" -l yes -d 'Do not ask'
complete -c nkudo -n "__fish_nkudo_using_subcommand recreate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand recreate" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand schema" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nkudo -n "__fish_nkudo_using_subcommand schema" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand shutdown" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand shutdown" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand shutdown" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand vsock" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand vsock" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand vsock" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "ready" -d 'Wait until the VM is ready'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "register" -d 'Make it known to systemd-machined'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "stop" -d 'Shut the guest down by its power button'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "post" -d 'Say why the VM ended; fail where systemd would take a crash for a clean exit'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "grant" -d 'Let the VM\'s user use its disks'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "revoke" -d 'Take the disks back'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "await" -d 'Wait until the guest says that it is ready, or takes connections'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "give-up" -d 'Stop the VM if it was not ready in time'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "take-kernel" -d 'Find the kernel in an image; of no VM\'s unit, but of one that reads that image'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "restored" -d 'Let the guest of a snapshot go on, once'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "guard" -d 'Let a VM go on once standard input ends without a word; `nkudo snapshot` runs it'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and not __fish_seen_subcommand_from ready register stop post grant revoke await give-up take-kernel restored guard help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from ready" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from ready" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from ready" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from register" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from register" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from register" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from stop" -l timeout -d 'How long the guest may take. On the command line, so that a VM can be shut down whatever has become of its specification' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from stop" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from stop" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from post" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from post" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from post" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from grant" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from grant" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from grant" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from revoke" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from revoke" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from await" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from await" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from await" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from give-up" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from give-up" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from give-up" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from take-kernel" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from take-kernel" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from take-kernel" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from restored" -l record -d 'What is renamed before it goes on: whoever cannot do that must not let it' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from restored" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from restored" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from restored" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from guard" -l state-dir -d 'Where generations are [default: `[host] state-dir` of the configuration, which is /var/lib/nkudo unless it says otherwise]' -r
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from guard" -s h -l help -d 'Print help'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from guard" -s V -l version -d 'Print version'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "ready" -d 'Wait until the VM is ready'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "register" -d 'Make it known to systemd-machined'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "stop" -d 'Shut the guest down by its power button'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "post" -d 'Say why the VM ended; fail where systemd would take a crash for a clean exit'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "grant" -d 'Let the VM\'s user use its disks'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "revoke" -d 'Take the disks back'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "await" -d 'Wait until the guest says that it is ready, or takes connections'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "give-up" -d 'Stop the VM if it was not ready in time'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "take-kernel" -d 'Find the kernel in an image; of no VM\'s unit, but of one that reads that image'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "restored" -d 'Let the guest of a snapshot go on, once'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "guard" -d 'Let a VM go on once standard input ends without a word; `nkudo snapshot` runs it'
complete -c nkudo -n "__fish_nkudo_using_subcommand unit; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "check" -d 'Say all mistakes of the configuration, and change nothing'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "render" -d 'Make a generation of the configuration; the host stays as it is'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "diff" -d 'Print what a switch to the configuration would do, and why; change nothing'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "switch" -d 'Make the host be a generation'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "rollback" -d 'Switch back to the generation before the current one, or to another older one'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "generations" -d 'List the generations: when and by whom they were rendered, why, and what each changed'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "gc" -d 'Remove old generations'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "status" -d 'Print the state of VMs'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "doctor" -d 'Say whether this host is fit for its VMs, and what mends it where it is not'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "start" -d 'Start a VM as the current generation has it, and let switches start it again'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "stop" -d 'Stop a VM, by its power button first, and let switches leave it stopped'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "pause" -d 'Stop the vCPUs of a VM where they are, until `nkudo resume`'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "resume" -d 'Let a VM that was paused go on'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "snapshot" -d 'Take a snapshot of a VM that runs: its memory, its devices and its disks at one moment'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "restore" -d 'Put a VM back to a snapshot: its memory, its devices and its disks'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "snapshots" -d 'List snapshots: when they were taken, and how large they are'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "logs" -d 'Print what the journal has of a VM: its guest\'s console, its VMM, systemd and nkudo'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "console" -d 'Attach this terminal to a guest\'s serial port'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "ssh" -d 'Open a shell in a VM, or run a command in it, by ssh(1)'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "collect" -d 'Put all that somebody needs to see of a host in trouble into one archive'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "api" -d 'Call a VM\'s hypervisor over its API, and print the answer'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "restart" -d 'Stop a VM, if it runs, and start it as the current generation has it'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "image" -d 'List, fetch and remove images'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "disk" -d 'List the disks that nkudo made'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "purge" -d 'Remove disks that are in no file any more, and snapshots, for good'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "recreate" -d 'Make disks of a VM anew, from what the file declares now'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "schema" -d 'Print the JSON Schema of nkudo.toml, for editors'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "shutdown" -d 'Stop all VMs in their order, if the host shuts down; nkudo-shutdown.service runs it'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "vsock" -d 'Hand ssh a connection to a guest\'s vsock; `nkudo ssh` has it run this'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "unit" -d 'A step of a VM\'s unit; systemd runs these'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and not __fish_seen_subcommand_from check render diff switch rollback generations gc status doctor start stop pause resume snapshot restore snapshots logs console ssh collect api restart image disk purge recreate schema shutdown vsock unit help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "list" -d 'List images: how large they are, where they are kept, and who uses them'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "pull" -d 'Fetch the images that VMs of the configuration need, before a switch does'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "gc" -d 'Remove images that no kept generation, no disk and no running VM uses'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from disk" -f -a "list" -d 'List the disks that nkudo made: what from, how large they are, and whether a file declares them'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "ready" -d 'Wait until the VM is ready'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "register" -d 'Make it known to systemd-machined'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "stop" -d 'Shut the guest down by its power button'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "post" -d 'Say why the VM ended; fail where systemd would take a crash for a clean exit'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "grant" -d 'Let the VM\'s user use its disks'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "revoke" -d 'Take the disks back'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "await" -d 'Wait until the guest says that it is ready, or takes connections'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "give-up" -d 'Stop the VM if it was not ready in time'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "take-kernel" -d 'Find the kernel in an image; of no VM\'s unit, but of one that reads that image'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "restored" -d 'Let the guest of a snapshot go on, once'
complete -c nkudo -n "__fish_nkudo_using_subcommand help; and __fish_seen_subcommand_from unit" -f -a "guard" -d 'Let a VM go on once standard input ends without a word; `nkudo snapshot` runs it'
