# bash completion of portal-worker(8)
complete -W '--check --help --version' portal-worker
