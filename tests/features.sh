# Kinds of ext4 volume that are written in tests: ext4_volume NAME prints what with.sh's image takes for it.
# Features by name, never by default.
ext4_base='none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize'

# The first of them are part of make check.
ext4_volumes='default old ext3 1k 2k nocsum nojournal inline meta_bg uninit small_journal nodirindex orphan_list sparse2 clusters clusters_1k clusters_2k clusters_large clusters_nojournal 8k 16k 32k 64k 64k_clusters 64k_pointers ea_inode ea_inode_pointers large_dir jdata jfiles mmp ext2 nofiletype rev0'

ext4_volume() {
	case $1 in
	default) echo "-O $ext4_base,resize_inode,metadata_csum,metadata_csum_seed,orphan_file" ;;
	old) echo "-O $ext4_base,resize_inode,metadata_csum" ;; # as Debian 12 makes them
	ext3) echo "-q -O none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file -I 128" ;;
	1k) echo "-b 1024 -O $ext4_base,resize_inode,metadata_csum,orphan_file" ;;
	2k) echo "-b 2048 -O $ext4_base,metadata_csum,metadata_csum_seed" ;;
	nocsum) echo "-O $ext4_base,resize_inode" ;;
	nojournal) echo "-O ${ext4_base/has_journal,/},metadata_csum" ;;
	inline) echo "-O $ext4_base,metadata_csum,metadata_csum_seed,orphan_file,inline_data" ;;
	meta_bg) echo "-b 1024 -O $ext4_base,metadata_csum,meta_bg" ;;
	uninit) echo "-O none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,uninit_bg,dir_nlink,extra_isize" ;;
	small_journal) echo "-b 1024 -J size=1 -O $ext4_base,metadata_csum" ;;
	nodirindex) echo "-O ${ext4_base/dir_index,/},metadata_csum" ;;
	orphan_list) echo "-b 1024 -g 1024 -O $ext4_base,metadata_csum,metadata_csum_seed" ;; # many small groups
	sparse2) echo "-O ${ext4_base/sparse_super,/},sparse_super2,metadata_csum -E num_backup_sb=2" ;;
	ea_inode) echo "-b 1024 -O $ext4_base,resize_inode,metadata_csum,orphan_file,ea_inode" ;;
	ea_inode_pointers) echo "-q -I 128 -O none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file,ea_inode" ;;
	casefold) echo "-O $ext4_base,resize_inode,metadata_csum,orphan_file,casefold -E encoding=utf8 --then tests/tools/casefolded.sh IMAGE" ;;
	large_dir) echo "-b 1024 -O $ext4_base,metadata_csum,large_dir" ;;
	clusters) echo "-b 4096 -g 256 -i 32768 -C 65536 -O $ext4_base,metadata_csum,metadata_csum_seed,orphan_file,bigalloc" ;;
	clusters_1k) echo "-b 1024 -C 16384 -i 32768 -O ${ext4_base/flex_bg,/},metadata_csum,bigalloc" ;;
	clusters_2k) echo "-b 2048 -C 8192 -i 32768 -O ${ext4_base/64bit,/},resize_inode,uninit_bg,bigalloc" ;;
	clusters_large) echo "-b 4096 -C 131072 -i 32768 -O $ext4_base,metadata_csum,inline_data,bigalloc" ;;
	clusters_nojournal) echo "-b 2048 -C 32768 -i 32768 -O ${ext4_base/has_journal,/},metadata_csum,bigalloc" ;;
	# Longer than a page: mke2fs and we can, the kernel cannot.
	8k) echo "-b 8192 -i 32768 -O $ext4_base,resize_inode,metadata_csum,orphan_file" ;;
	16k) echo "-b 16384 -i 32768 -O $ext4_base,metadata_csum,metadata_csum_seed,inline_data" ;;
	32k) echo "-b 32768 -i 32768 -O ${ext4_base/flex_bg,/},uninit_bg" ;;
	64k) echo "-b 65536 -i 32768 -O $ext4_base,metadata_csum,metadata_csum_seed,orphan_file" ;;
	64k_clusters) echo "-b 65536 -C 131072 -i 32768 -O $ext4_base,metadata_csum,bigalloc" ;;
	64k_pointers) echo "-q -b 65536 -i 32768 -I 128 -O none,ext_attr,dir_index,filetype,sparse_super,large_file" ;;
	jdata) echo "-O $ext4_base,metadata_csum,orphan_file --then tune2fs -o journal_data IMAGE" ;;
	jfiles) echo "-b 1024 -O $ext4_base,metadata_csum --then tests/tools/all_journalled.sh IMAGE" ;; # +j, inherited from the root
	mmp) echo "-O $ext4_base,metadata_csum,mmp -E mmp_update_interval=1" ;;
	ext2) echo "-q -O none,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file -I 128" ;;
	nofiletype) echo "-q -O none,has_journal,ext_attr,sparse_super -I 128" ;;
	rev0) echo "-q -r 0 -O none" ;;
	*) return 1 ;;
	esac
}
